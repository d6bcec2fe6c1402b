//! Messages as prost writes them, in buffers that begin small and end small: an operator keeps a pair of them for the life of
//! each of thousands of streams. tonic's begin with 8 KiB each, and keep for good what the largest message needed, which
//! is what an agent says when it comes.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::{Buf, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Bytes that a buffer begins with.
const BEGIN: usize = 1 << 10;

/// Bytes of several messages that go out together, as tonic has it.
const TOGETHER: usize = 32 << 10;

#[derive(Debug)]
pub struct Lean<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Lean<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for Lean<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = LeanDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BEGIN, TOGETHER))
    }

    fn decoder(&mut self) -> Self::Decoder {
        LeanDecoder {
            prost: ProstDecoder::new(BufferSettings::new(BEGIN, TOGETHER)),
            large: None,
            item: PhantomData,
        }
    }
}

/// prost's decoder, which takes a buffer that had to grow away from the stream.
#[derive(Debug)]
pub struct LeanDecoder<U> {
    prost: ProstDecoder<U>,
    /// The last message's bytes where they were many. While they are held here the stream cannot write into that buffer again and
    /// begins another; with the message after it they go.
    large: Option<Bytes>,
    item: PhantomData<U>,
}

impl<U: Message + Default> Decoder for LeanDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.large = None;
        if from.remaining() <= BEGIN {
            return self.prost.decode(from);
        }
        let bytes = from.copy_to_bytes(from.remaining());
        let read = U::decode(&*bytes).map(Some).map_err(|error| Status::internal(error.to_string()));
        self.large = Some(bytes);
        read
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.prost.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use tonic::Streaming;
    use tonic::codec::EncodeBody;

    use super::*;
    use crate::report::v1::{Resync, Up, Welcome};

    /// What is said, as it comes to the other end, up to the first error: after that a stream says nothing that means anything.
    async fn heard<U: Message + Default + Send + 'static>(said: &[Resync]) -> Vec<Result<U, tonic::Code>> {
        let said = futures::stream::iter(said.to_vec()).map(Ok);
        let encoder = Lean::<Resync, Resync>::default().encoder();
        let body = EncodeBody::new_client(encoder, said, None, None);
        let decoder = Lean::<U, U>::default().decoder();
        let mut stream = Streaming::new_request(decoder, body, None, None);
        let mut heard = Vec::new();
        while heard.last().is_none_or(Result::is_ok)
            && let Some(message) = stream.next().await
        {
            heard.push(message.map_err(|status| status.code()));
        }
        heard
    }

    fn of(bytes: usize) -> Resync {
        Resync { reason: "x".repeat(bytes) }
    }

    #[tokio::test]
    async fn messages_of_any_size_come_in_any_order() {
        let sizes =
            [0, 5, BEGIN, 5, 3 * BEGIN, BEGIN + 1, 64 * BEGIN, 64 * BEGIN, 0, 7, BEGIN - 4, 2 * BEGIN, 1];
        let said: Vec<Resync> = sizes.into_iter().map(of).collect();
        assert_eq!(heard(&said).await, said.into_iter().map(Ok).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_whatever_its_size() {
        for bytes in [5, 5 * BEGIN] {
            assert_eq!(heard::<Welcome>(&[of(bytes)]).await, [Err(tonic::Code::Internal)], "{bytes}");
        }
        assert_eq!(heard::<Up>(&[]).await, []);
    }
}
