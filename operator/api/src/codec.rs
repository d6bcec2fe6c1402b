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

/// Of gRPC, before each message.
const HEADER: usize = 5;

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
            grown: Grown::default(),
            item: PhantomData,
        }
    }
}

/// prost's decoder, which lets go of a buffer that had to grow.
#[derive(Debug)]
pub struct LeanDecoder<U> {
    prost: ProstDecoder<U>,
    grown: Grown,
    item: PhantomData<U>,
}

impl<U: Message + Default> Decoder for LeanDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        match self.grown.take(from) {
            Some(bytes) => U::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string())),
            None => self.prost.decode(from),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.prost.buffer_settings()
    }
}

/// A message that needed more room than a buffer begins with, held for as long as those after it come to lie behind it: what is
/// shared the stream cannot begin to fill again, so that it takes a new buffer, a small one, when this one has no room left.
#[derive(Debug, Default)]
struct Grown {
    held: Option<Bytes>,
    /// Where the last message ended.
    end: usize,
}

impl Grown {
    /// The message's bytes where they were taken out of the buffer.
    fn take(&mut self, from: &mut impl Buf) -> Option<Bytes> {
        let (start, length) = (from.chunk().as_ptr() as usize, from.remaining());
        if self.held.is_some() && start != self.end.wrapping_add(HEADER) {
            self.held = None;
        }
        self.end = start.wrapping_add(length);
        if length <= BEGIN || self.held.is_some() {
            return None;
        }
        let bytes = from.copy_to_bytes(length);
        self.held = Some(bytes.clone());
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use prost::bytes::{BufMut, BytesMut};
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

    /// As tonic has it: the header is taken off, room is made for what it announces, then comes the message.
    #[test]
    fn a_buffer_that_grew_is_let_go_and_not_filled_again() {
        let (mut buffer, mut grown) = (BytesMut::with_capacity(BEGIN), Grown::default());
        let mut say = |length: usize, buffer: &mut BytesMut| {
            buffer.put(&vec![7; HEADER + length][..]);
            buffer.advance(HEADER);
            buffer.reserve(length);
            let mut message = Buf::take(&mut *buffer, length);
            match grown.take(&mut message) {
                Some(bytes) => assert_eq!(bytes.len(), length),
                None => message.advance(length),
            }
            assert!(buffer.is_empty());
        };
        for large in [16 * BEGIN, 3 * BEGIN, 100 * BEGIN] {
            say(large, &mut buffer);
            for _ in 0..2 * large / 100 + 2 {
                say(100, &mut buffer);
            }
            assert!(buffer.capacity() <= 2 * BEGIN, "{} bytes after one of {large}", buffer.capacity());
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_whatever_its_size() {
        for bytes in [5, 5 * BEGIN] {
            assert_eq!(heard::<Welcome>(&[of(bytes)]).await, [Err(tonic::Code::Internal)], "{bytes}");
        }
        assert_eq!(heard::<Up>(&[]).await, []);
    }
}
