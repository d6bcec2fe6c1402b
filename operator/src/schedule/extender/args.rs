//! The extender's question, read without copying: the pod's few fields, and node names as slices of the body.
//!
//! Go writes `ExtenderArgs` without field tags, so the names are `Pod`, `Nodes`, `NodeNames`; schedulers
//! before 1.16 wrote them in lower case. At 5,000 nodes nearly all of the body is names.

use std::marker::PhantomData;

use operator_api::validate::bulk;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::schedule::pod::Pod;

/// A scheduler without node cache sends whole nodes, of some 10 KiB each.
pub const LARGEST: usize = 64 << 20;

/// Ten times as many nodes as Kubernetes is made for. An entry of two bytes would else become sixteen in memory.
pub const NODES: usize = 50_000;

/// The API server's own limit for a request: no pod is larger.
const LARGEST_POD: usize = 3 << 20;

/// Of a DNS subdomain.
const LONGEST_NAME: usize = 253;

#[derive(Debug, Deserialize)]
pub struct Args<'a> {
    #[serde(rename = "Pod", alias = "pod", default, deserialize_with = "pod")]
    pub pod: Option<Pod>,
    #[serde(rename = "Nodes", alias = "nodes", borrow)]
    pub nodes: Option<NodeList<'a>>,
    #[serde(rename = "NodeNames", alias = "nodenames", borrow)]
    pub node_names: Option<Names<'a>>,
}

/// Whole nodes, kept as they came: they are sent back as they are.
#[derive(Debug, Deserialize)]
pub struct NodeList<'a> {
    #[serde(borrow)]
    pub items: Option<Items<'a>>,
}

/// Measured before it is taken apart: its lists would take many times their bytes.
fn pod<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Pod>, D::Error> {
    let Some(raw) = Option::<&RawValue>::deserialize(from)? else { return Ok(None) };
    if raw.get().len() > LARGEST_POD {
        return Err(D::Error::custom(format!("a pod of more than {LARGEST_POD} bytes")));
    }
    bulk::check(raw.get())
        .map_err(|bulky| D::Error::custom(format!("a pod too bulky to be read: {bulky}")))?;
    serde_json::from_str(raw.get()).map_err(D::Error::custom)
}

#[derive(Debug, Default)]
pub struct Items<'a>(pub Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(Bounded("a list of nodes", PhantomData)).map(Items)
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Names<'a>(pub Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = from.deserialize_seq(Bounded::<Name<'de>>("a list of node names", PhantomData))?;
        Ok(Names(names.into_iter().map(|Name(name)| name).collect()))
    }
}

/// No more than [`NODES`] of something.
struct Bounded<T>(&'static str, PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Bounded<T> {
    type Value = Vec<T>;
    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.0)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::with_capacity(1024);
        while let Some(one) = from.next_element()? {
            if all.len() == NODES {
                return Err(A::Error::custom(format!("more than {NODES} nodes, as no cluster has")));
            }
            all.push(one);
        }
        Ok(all)
    }
}

/// A DNS subdomain: it holds nothing that JSON would escape. What does is no node's name.
struct Name<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Slice;
        impl<'de> Visitor<'de> for Slice {
            type Value = &'de str;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a node's name")
            }
            fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<&'de str, E> {
                if name.is_empty() || name.len() > LONGEST_NAME {
                    return Err(E::custom(format!("a node's name that has not 1 to {LONGEST_NAME} bytes")));
                }
                // What is written back between quotes must be what was read between them.
                if name.bytes().all(|byte| byte > 0x1f && byte != b'"' && byte != b'\\') {
                    Ok(name)
                } else {
                    Err(E::custom("a node's name with a character that must be escaped"))
                }
            }
        }
        from.deserialize_str(Slice).map(Name)
    }
}

#[derive(Deserialize)]
struct Node<'a> {
    #[serde(borrow)]
    metadata: NodeMetadata<'a>,
}

#[derive(Deserialize)]
struct NodeMetadata<'a> {
    #[serde(borrow)]
    name: Name<'a>,
}

/// The name of a node that was sent whole.
pub fn name_of(node: &RawValue) -> Result<&str, serde_json::Error> {
    serde_json::from_str::<Node<'_>>(node.get()).map(|node| node.metadata.name.0)
}
