//! Descriptions of types and BPF objects that are wrong in one place.

/// A BTF in which no name is `name` any more.
pub fn renamed(btf: &[u8], name: &[u8]) -> Vec<u8> {
    let mut bytes = btf.to_vec();
    let needle = [b"\0", name, b"\0"].concat();
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(needle.len()).position(|window| window == needle) {
        bytes[at + found + 1] = b'X';
        at += found + 1;
    }
    bytes
}

fn word(bytes: &[u8], at: usize) -> usize {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// A BTF in which a member of a structure lies at another byte. Format: Documentation/bpf/btf.rst.
pub fn moved(btf: &[u8], structure: &[u8], member: &[u8], to: u32) -> Vec<u8> {
    const STRUCT: usize = 4;
    let mut bytes = btf.to_vec();
    let header = word(btf, 4);
    let (types, end) = (header + word(btf, 8), header + word(btf, 8) + word(btf, 12));
    let strings = header + word(btf, 16);
    let named = |at: usize, name: &[u8]| {
        let found = &btf[strings + word(btf, at)..];
        found.starts_with(name) && found.get(name.len()) == Some(&0)
    };
    let (mut at, mut changed) = (types, 0);
    while at < end {
        let info = word(btf, at + 4);
        let (kind, members) = (info >> 24 & 0x1f, info & 0xffff);
        if kind == STRUCT && named(at, structure) {
            for place in (0..members).map(|number| at + 12 + 12 * number).filter(|at| named(*at, member)) {
                bytes[place + 8..place + 12].copy_from_slice(&(to * 8).to_ne_bytes());
                changed += 1;
            }
        }
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => 12 * members,
                6 | 13 => 8 * members,
                _ => 0,
            };
    }
    assert_eq!(changed, 1, "one structure of that name, with one such member");
    bytes
}
