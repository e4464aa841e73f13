//! The compression of layers: told by the first bytes, bounded in memory and ratio.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::MultiGzDecoder;

use super::{archive::Skip, digest::HashingReader, limits::Budget, problem::Problem};

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// Tells the compression from the first bytes of a stream (RFC 1952 2.3.1; RFC 8878 3.1.1).
    pub(crate) fn of(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// Bytes per read from the source: large, for files are read in sequence.
const BUFFER: usize = 256 * 1024;

/// A compressed stream of which the first bytes were looked at.
#[derive(Debug)]
pub(crate) struct Compressed<R> {
    input: BufReader<R>,
    pub(crate) compression: Compression,
}

impl<R: Read> Compressed<R> {
    pub(crate) fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let compression = Compression::of(input.fill_buf()?);
        Ok(Self { input, compression })
    }
}

/// The decompressed stream, counted against the budget and the ratio.
pub(crate) struct Decompressed<'a, R: Read> {
    decoder: Decoder<'a, HashingReader<R>>,
    budget: &'a Budget<'a>,
    produced: u64,
}

enum Decoder<'a, R: Read> {
    None(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(zstd::stream::read::Decoder<'a, BufReader<R>>),
}

impl<'a, R: Read> Decompressed<'a, R> {
    pub(crate) fn new(
        compressed: Compressed<HashingReader<R>>,
        budget: &'a Budget<'a>,
    ) -> io::Result<Self> {
        let Compressed { input, compression } = compressed;
        let decoder = match compression {
            Compression::None => Decoder::None(input),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(budget.limits.zstd_window_log)?;
                Decoder::Zstd(decoder)
            }
        };
        Ok(Self { decoder, budget, produced: 0 })
    }

    fn source(&self) -> &HashingReader<R> {
        match &self.decoder {
            Decoder::None(input) => input.get_ref(),
            Decoder::Gzip(decoder) => decoder.get_ref().get_ref(),
            Decoder::Zstd(decoder) => decoder.get_ref().get_ref(),
        }
    }

    /// The reader of the compressed bytes, which were all consumed if this is called at the end.
    pub(crate) fn into_source(self) -> HashingReader<R> {
        match self.decoder {
            Decoder::None(input) => input.into_inner(),
            Decoder::Gzip(decoder) => decoder.into_inner().into_inner(),
            Decoder::Zstd(decoder) => decoder.finish().into_inner(),
        }
    }
}

impl<R: Read> Read for Decompressed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::None(input) => input.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.produced += read as u64;
        self.budget.grow(read as u64)?;
        let limits = self.budget.limits;
        if self.produced > limits.ratio_after
            && self.produced / limits.ratio > self.source().count()
        {
            let what = "times the size of its compressed form";
            return Err(Problem::Limit { what, limit: limits.ratio }.into());
        }
        Ok(read)
    }
}

impl<R: Read> Skip for Decompressed<'_, R> {}
