//! Archives that cost more than they should.

use tar::EntryType;

use super::{Refused, case, check, limited};
use crate::image::tests::fixture::{Archive, gzip, zstd};

#[test]
fn bombs() {
    check(|_| {
        let a = Archive::new;
        let zeros = || a().file("zeros", &vec![0; 3 << 20]).end();
        let size = |field: [u8; 12]| {
            a().with(EntryType::Regular, b"f", b"", |h| h.as_old_mut().size = field).end()
        };
        let mut wide = a();
        for index in 0..200 {
            wide = wide.dir(&format!("directory-{index}/"));
        }
        let wide = wide.end();
        vec![
            limited("gzip ratio", gzip(&zeros()), Refused("times the size"), |l| {
                (l.ratio, l.ratio_after) = (100, 1 << 20);
            }),
            limited("zstd ratio", zstd(&zeros()), Refused("times the size"), |l| {
                l.ratio_after = 1 << 20;
            }),
            limited("unpacked bytes", zeros(), Refused("bytes unpacked"), |l| l.unpacked = 1 << 20),
            limited("unpacked bytes, gzip", gzip(&zeros()), Refused("bytes unpacked"), |l| {
                l.unpacked = 1 << 20;
            }),
            limited("stored bytes", zeros(), Refused("are allowed"), |l| l.image = 1 << 20),
            limited("entries", wide.clone(), Refused("more than 100 files and directories"), |l| {
                l.entries = 100;
            }),
            limited("directory names", wide, Refused("bytes of directory names"), |l| {
                l.directory_names = 9000;
            }),
            case(
                "size of 2^62",
                size([0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]),
                Refused("is damaged"),
            ),
            case(
                "size of 2^63",
                size([0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
                Refused("no number that fits"),
            ),
            case(
                "size of 2^80",
                size([0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                Refused("no number that fits"),
            ),
            case("negative size", size([0xff; 12]), Refused("no number that fits")),
            case(
                "PAX size of 2^64",
                a().pax(&[("size", b"18446744073709551616")]).file("f", b"").end(),
                Refused("no number that fits"),
            ),
            case(
                "extended header of 2 MiB",
                a().pax(&[("comment", &vec![b'x'; 2 << 20])]).file("f", b"").end(),
                Refused("bytes in an extended header"),
            ),
            case(
                "long name of 2 MiB",
                a().with(EntryType::GNULongName, b"L", &vec![b'x'; 2 << 20], |_| {})
                    .file("f", b"")
                    .end(),
                Refused("bytes in an extended header"),
            ),
            case("zstd window of 256 MiB", zstd_window(28), Refused("cannot be read")),
            case("gzip cut", gzip(&zeros())[..500].to_vec(), Refused("")),
            case(
                "gzip with a wrong checksum",
                {
                    let mut data = gzip(&a().file("f", b"x").end());
                    let at = data.len() - 6;
                    data[at] ^= 1;
                    data
                },
                Refused("cannot be read"),
            ),
            case(
                "garbage after gzip",
                [gzip(&a().file("f", b"x").end()), b"garbage after the end".to_vec()].concat(),
                Refused("cannot be read"),
            ),
            case("zstd cut", zstd(&zeros())[..20].to_vec(), Refused("")),
        ]
    });
}

fn zstd_window(log: u32) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(log).unwrap();
    encoder.write_all(&Archive::new().file("f", b"x").end()).unwrap();
    encoder.finish().unwrap()
}
