//! The extender's question, read without copying: the pod's few fields, and node names as slices of the body.
//!
//! Go writes `ExtenderArgs` without field tags, so the names are `Pod`, `Nodes`, `NodeNames`; schedulers
//! before 1.16 wrote them in lower case. At 5,000 nodes nearly all of the body is names.

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::schedule::pod::Pod;

/// A scheduler without node cache sends whole nodes, of some 10 KiB each.
pub const LARGEST: usize = 64 << 20;

#[derive(Debug, Deserialize)]
pub struct Args<'a> {
    #[serde(rename = "Pod", alias = "pod", default)]
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
    pub items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Names<'a>(pub Vec<&'a str>);

impl<'de: 'a, 'a> Deserialize<'de> for Names<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Slices;
        impl<'de> Visitor<'de> for Slices {
            type Value = Vec<&'de str>;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a list of node names")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
                let mut names = Vec::with_capacity(1024);
                while let Some(Name(name)) = from.next_element()? {
                    names.push(name);
                }
                Ok(names)
            }
        }
        from.deserialize_seq(Slices).map(Names)
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
