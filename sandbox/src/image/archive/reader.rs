//! The stream of entries: headers, their extensions, and the data between them.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{
    EntryPath,
    entry::{Entry, Pending},
    number,
    pax::{self, Extensions},
};
use crate::image::{
    limits::ImportLimits,
    pack::{RECIPE, Recorder},
    problem::Problem,
};

pub(super) const BLOCK: u64 = 512;

/// A reader that may have a faster way to skip than reading.
pub(crate) trait Skip: Read + Sized {
    /// Passes over exactly `count` bytes; it is an error if the input ends before.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let copied = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if copied == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// An archive being read; as a [`Read`], it yields the data of the current entry.
#[derive(Debug)]
pub(crate) struct Archive<'a, R> {
    input: R,
    pub(super) limits: &'a ImportLimits,
    /// Bytes consumed so far: where the archive is damaged, if it is.
    pub(super) at: u64,
    /// Bytes of the current entry's data that are still to come, and the padding after them.
    pub(super) data: u64,
    pub(super) padding: u64,
    ended: bool,
    /// Takes down all that is not a file's data, where the archive shall be made again.
    recorder: Option<Recorder>,
}

impl<'a, R: Skip> Archive<'a, R> {
    pub(crate) fn new(input: R, limits: &'a ImportLimits) -> Self {
        Self { input, limits, at: 0, data: 0, padding: 0, ended: false, recorder: None }
    }

    /// Takes down what is read from here on.
    pub(crate) fn record(mut self, recorder: Recorder) -> Self {
        self.recorder = Some(recorder);
        self
    }

    /// How many files the recipe has so far.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorder.as_ref().map_or(0, Recorder::files)
    }

    /// Takes down that the data just read stands in the file `path`.
    pub(crate) fn kept(&mut self, path: &EntryPath, pieces: &[(u64, u64)]) -> Result<(), Problem> {
        match &mut self.recorder {
            Some(recorder) => recorder.file(path, pieces).map_err(not_recorded),
            None => Ok(()),
        }
    }

    /// Reads what follows the archive, and ends the recipe; the input, all of it read.
    pub(crate) fn finish(mut self) -> Result<R, Problem> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = self.input.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            self.took(buffer.get(..read).unwrap_or_default())?;
        }
        if let Some(recorder) = self.recorder {
            recorder.finish().map_err(not_recorded)?;
        }
        Ok(self.input)
    }

    pub(super) fn took(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        match &mut self.recorder {
            Some(recorder) => recorder.bytes(bytes).map_err(not_recorded),
            None => Ok(()),
        }
    }

    /// Bytes consumed so far. After [`Self::next`], where the entry's data begins.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// The next entry, whether or not the data of the one before was read.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Problem> {
        if self.ended {
            return Ok(None);
        }
        let rest = std::mem::take(&mut self.data);
        self.skip(rest)?;
        let padding = usize::try_from(std::mem::take(&mut self.padding)).unwrap_or_default();
        // Some writers (umoci 0.4 among them) leave out the padding of the last entry.
        if padding != 0 && self.fill(padding)?.is_none() {
            self.ended = true;
            return Ok(None);
        }
        let mut pending = Pending::default();
        loop {
            let Some(header) = self.header()? else {
                self.ended = true;
                if pending.is_some() {
                    return Err(self.damaged("it ends between the parts of a header"));
                }
                return Ok(None);
            };
            match header.entry_type() {
                EntryType::XHeader => {
                    let data = self.extension(&header, self.limits.extension)?;
                    let parsed = Extensions::parse(&data).map_err(|why| self.damaged(why))?;
                    if pending.extensions.replace(parsed).is_some() {
                        return Err(self.damaged("two extended headers for one entry"));
                    }
                }
                EntryType::XGlobalHeader => {
                    let data = self.extension(&header, self.limits.extension)?;
                    pax::check_global(&data).map_err(|why| self.damaged(why))?;
                }
                EntryType::GNULongName => {
                    let name = self.long_name(&header)?;
                    if pending.long_name.replace(name).is_some() {
                        return Err(self.damaged("two long names for one entry"));
                    }
                }
                EntryType::GNULongLink => {
                    let name = self.long_name(&header)?;
                    if pending.long_link.replace(name).is_some() {
                        return Err(self.damaged("two long link targets for one entry"));
                    }
                }
                _ => return self.entry(&header, pending).map(Some),
            }
        }
    }

    /// Reads and checks one header block; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, Problem> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            // Two zero blocks end an archive; some writers leave out one or both.
            return match self.block()? {
                Some(next) if next.iter().any(|byte| *byte != 0) => {
                    Err(self.damaged("a lone block of zeros stands between entries"))
                }
                _ => Ok(None),
            };
        }
        let mut header = Header::new_old();
        *header.as_mut_bytes() = block;
        let sum = block
            .iter()
            .enumerate()
            .map(|(index, byte)| if (148..156).contains(&index) { 32 } else { u64::from(*byte) })
            .sum::<u64>();
        if number::unsigned(&header.as_old().cksum) != Some(sum) {
            return Err(self.damaged("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>, Problem> {
        let mut name = self.extension(header, self.limits.extension)?;
        // GNU writes the name with its NUL.
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// The data of an extension header, of at most `limit` bytes.
    fn extension(&mut self, header: &Header, limit: u64) -> Result<Vec<u8>, Problem> {
        let size = number::unsigned(&header.as_old().size);
        let size = size.ok_or_else(|| self.damaged("the size of a header is no number"))?;
        if size > limit {
            return Err(Problem::Limit { what: "bytes in an extended header", limit });
        }
        let mut data = Vec::new();
        (&mut self.input).take(size).read_to_end(&mut data)?;
        self.at += data.len() as u64;
        self.took(&data)?;
        if data.len() as u64 != size {
            return Err(self.damaged("it ends in a header"));
        }
        self.skip(size.next_multiple_of(BLOCK) - size)?;
        Ok(data)
    }

    /// One block, or `None` where the input ends before its first byte.
    pub(super) fn block(&mut self) -> Result<Option<[u8; 512]>, Problem> {
        self.fill(512)
    }

    /// The next `count` bytes, at most a block, or `None` where the input ends before the first.
    fn fill(&mut self, count: usize) -> Result<Option<[u8; 512]>, Problem> {
        let mut block = [0; 512];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..count).filter(|rest| !rest.is_empty()) {
            match self.input.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.damaged("it ends within a block")),
                Ok(read) => {
                    filled += read;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.took(block.get(..count).unwrap_or_default())?;
        Ok(Some(block))
    }

    fn skip(&mut self, count: u64) -> Result<(), Problem> {
        if count == 0 {
            return Ok(());
        }
        let skipped = match &mut self.recorder {
            None => self.input.skip(count),
            Some(recorder) => copy(&mut self.input, count, recorder)?,
        };
        skipped.map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                self.damaged("it ends in the data of an entry")
            } else {
                Problem::from(error)
            }
        })?;
        self.at = self.at.saturating_add(count);
        Ok(())
    }

    pub(super) fn damaged(&self, why: impl Into<String>) -> Problem {
        Problem::Damaged { at: self.at, why: why.into() }
    }
}

/// Takes down exactly `count` bytes. The outer result is the recipe's, the inner the input's.
fn copy<R: Read>(
    input: &mut R,
    count: u64,
    recorder: &mut Recorder,
) -> Result<io::Result<()>, Problem> {
    let mut buffer = [0; 8192];
    let mut left = count;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match input.read(buffer.get_mut(..wanted).unwrap_or_default()) {
            Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
            Ok(read) => read,
            Err(error) => return Ok(Err(error)),
        };
        recorder.bytes(buffer.get(..read).unwrap_or_default()).map_err(not_recorded)?;
        left -= read as u64;
    }
    Ok(Ok(()))
}

fn not_recorded(error: io::Error) -> Problem {
    Problem::write(RECIPE.as_bytes(), error)
}

impl<R: Read> Read for Archive<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.data).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.input.read(buffer.get_mut(..wanted).unwrap_or_default())?;
        if read == 0 {
            let why = "it ends in the data of an entry".to_owned();
            return Err(Problem::Damaged { at: self.at, why }.into());
        }
        self.at += read as u64;
        self.data -= read as u64;
        Ok(read)
    }
}
