//! Sparse files in all four forms, and maps that lie.

use tar::EntryType;

use super::{Refused, Unpacks, case, check};
use crate::image::tests::fixture::Archive;

/// A GNU sparse file with these pieces and this size.
fn sparse(pieces: &[(u64, u64)], size: u64, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..6].copy_from_slice(b"sparse");
    header.set_entry_type(EntryType::GNUSparse);
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(size);
    for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(pieces) {
        slot.set_offset(*offset);
        slot.set_length(*length);
    }
    header.set_cksum();
    Archive::new().raw(&header, data).end()
}

/// A PAX sparse file of form 1.0 with this map text before the data.
fn sparse_1_0(map: &str, size: &str, data: &[u8]) -> Vec<u8> {
    let mut content = map.as_bytes().to_vec();
    content.resize(content.len().next_multiple_of(512), 0);
    content.extend_from_slice(data);
    Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.realsize", size.as_bytes()),
        ])
        .file("GNUSparseFile.0/sparse", &content)
        .end()
}

#[test]
fn sparse_files() {
    check(|_| {
        let good = "sparse 644 0:0 \"ab\\0\\0\\0\\0cd\\0\\0\"";
        vec![
            case("GNU", sparse(&[(0, 2), (6, 2)], 10, b"abcd"), Unpacks(good)),
            case("PAX 1.0", sparse_1_0("2\n0\n2\n6\n2\n", "10", b"abcd"), Unpacks(good)),
            case(
                "PAX 0.1",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.size", b"10"),
                        ("GNU.sparse.numblocks", b"2"),
                        ("GNU.sparse.name", b"sparse"),
                        ("GNU.sparse.map", b"0,2,6,2"),
                    ])
                    .file("x", b"abcd")
                    .end(),
                Unpacks(good),
            ),
            case(
                "PAX 0.0",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.size", b"10"),
                        ("GNU.sparse.numblocks", b"2"),
                        ("GNU.sparse.offset", b"0"),
                        ("GNU.sparse.numbytes", b"2"),
                        ("GNU.sparse.offset", b"6"),
                        ("GNU.sparse.numbytes", b"2"),
                    ])
                    .file("sparse", b"abcd")
                    .end(),
                Unpacks(good),
            ),
            case("overlap", sparse(&[(0, 4), (2, 2)], 10, b"abcdef"), Refused("overlaps")),
            case("backwards", sparse(&[(6, 2), (0, 2)], 10, b"abcd"), Refused("overlaps")),
            case("past the end", sparse(&[(8, 4)], 10, b"abcd"), Refused("leaves it")),
            case("offset of 2^63", sparse(&[(u64::MAX / 2, 4)], 10, b"abcd"), Refused("leaves it")),
            case(
                "less data than mapped",
                sparse(&[(0, 8)], 10, b"abcd"),
                Refused("maps 8 bytes and holds 4"),
            ),
            case(
                "more data than mapped",
                sparse(&[(0, 2)], 10, &[b'a'; 1024]),
                Refused("maps 2 bytes"),
            ),
            case("a hole of 1 TiB", sparse(&[(0, 2)], 1 << 40, b"ab"), Refused("bytes unpacked")),
            case(
                "map without end",
                sparse_1_0(&"1".repeat(5000), "10", b""),
                Refused("sparse file is malformed"),
            ),
            case("map of a million", sparse_1_0("1000000\n", "10", b""), Refused("too long")),
            case("map of letters", sparse_1_0("x\n", "10", b""), Refused("malformed")),
            case(
                "unknown form",
                Archive::new()
                    .pax(&[
                        ("GNU.sparse.major", b"2"),
                        ("GNU.sparse.minor", b"0"),
                        ("GNU.sparse.size", b"1"),
                    ])
                    .file("x", b"a")
                    .end(),
                Refused("form of sparse file"),
            ),
            case(
                "odd map",
                Archive::new()
                    .pax(&[("GNU.sparse.size", b"10"), ("GNU.sparse.map", b"0,2,6")])
                    .file("x", b"ab")
                    .end(),
                Refused("odd length"),
            ),
        ]
    });
}
