//! What lies in files: the messages of a partition, and how far a group is with them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Error, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use messaging::{Message, Name, cloudevents};

/// One partition: a file of records, each of them a length and so many bytes.
#[derive(Debug)]
pub(crate) struct Log {
    file: File,
    /// Where each record begins, and at last where the next one will.
    offsets: Vec<u64>,
}

impl Log {
    /// Opens or makes the file. What a process was writing when it died is cut off: nobody was told that it is there.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let length = file.metadata()?.len();
        let (mut offsets, mut end) = (vec![0], 0);
        while end + 4 <= length {
            let mut size = [0; 4];
            file.read_exact_at(&mut size, end)?;
            end += 4 + u64::from(u32::from_le_bytes(size));
            if end > length {
                break;
            }
            offsets.push(end);
        }
        let log = Self { file, offsets };
        log.file.set_len(log.bytes())?;
        Ok(log)
    }

    /// How many messages there are: the position of the next one.
    pub(crate) fn end(&self) -> u64 {
        self.offsets.len() as u64 - 1
    }

    fn bytes(&self) -> u64 {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Adds a message; answers its position. If that fails, the next one is written over what was.
    pub(crate) fn append(&mut self, message: &Message) -> io::Result<u64> {
        let mut record = vec![0; 4];
        put(&mut record, &[u8::from(message.key.is_some())])?;
        put(&mut record, message.key.as_deref().unwrap_or_default())?;
        put(&mut record, &message.payload)?;
        let mut written = Ok(());
        // In CloudEvents' binary mode, as on brokers with headers, so that events of other programs are events here.
        cloudevents::write_binary(message, |name, value| {
            let both = put(&mut record, name.as_bytes()).and_then(|()| put(&mut record, value));
            written = std::mem::replace(&mut written, Ok(())).and(both);
        });
        written?;
        let length = u32::try_from(record.len() - 4).map_err(Error::other)?;
        record[..4].copy_from_slice(&length.to_le_bytes());
        self.file.write_all_at(&record, self.bytes())?;
        self.offsets.push(self.bytes() + record.len() as u64);
        Ok(self.end() - 1)
    }

    /// The message at a position below the end.
    pub(crate) fn read(&self, topic: &Name, position: u64) -> io::Result<Message> {
        let index = usize::try_from(position).map_err(Error::other)?;
        let (begin, end) = (self.offsets[index] + 4, self.offsets[index + 1]);
        let mut record = vec![0; usize::try_from(end - begin).map_err(Error::other)?];
        self.file.read_exact_at(&mut record, begin)?;
        let mut rest = record.as_slice();
        let (keyed, key, payload) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        let mut headers = Vec::new();
        while !rest.is_empty() {
            headers.push((std::str::from_utf8(take(&mut rest)?).map_err(Error::other)?, take(&mut rest)?));
        }
        let key = (keyed == [1]).then(|| key.to_vec().into());
        Ok(cloudevents::read(topic.clone(), key, payload.to_vec().into(), headers))
    }
}

fn put(record: &mut Vec<u8>, field: &[u8]) -> io::Result<()> {
    record.extend(u32::try_from(field.len()).map_err(Error::other)?.to_le_bytes());
    record.extend(field);
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8]) -> io::Result<&'a [u8]> {
    let field = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        after.split_at_checked(u32::from_le_bytes(*length) as usize)
    };
    let (field, after) = field().ok_or(ErrorKind::InvalidData)?;
    *rest = after;
    Ok(field)
}

/// Which messages of a partition a group is done with: all below the floor, and some beyond it.
#[derive(Debug)]
pub(crate) struct Progress {
    path: PathBuf,
    pub(crate) floor: u64,
    pub(crate) beyond: BTreeSet<u64>,
}

impl Progress {
    /// How far the group was; `start` if it is new here, which is kept at once: it loses nothing of what comes.
    pub(crate) fn open(path: PathBuf, start: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => start.to_string(),
            text => text?,
        };
        let mut numbers = text.split_whitespace().map(|word| word.parse().map_err(Error::other));
        let floor = numbers.next().unwrap_or(Ok(start))?;
        let progress = Self { path, floor, beyond: numbers.collect::<io::Result<_>>()? };
        progress.save()?;
        Ok(progress)
    }

    pub(crate) fn is_done(&self, position: u64) -> bool {
        position < self.floor || self.beyond.contains(&position)
    }

    pub(crate) fn settle(&mut self, positions: impl IntoIterator<Item = u64>) -> io::Result<()> {
        let floor = self.floor;
        self.beyond.extend(positions.into_iter().filter(|position| *position >= floor));
        while self.beyond.remove(&self.floor) {
            self.floor += 1;
        }
        self.save()
    }

    /// Replaces the file in one step, so that a process that dies leaves the one or the other.
    fn save(&self) -> io::Result<()> {
        let numbers = [self.floor].into_iter().chain(self.beyond.iter().copied());
        let text = numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(" ");
        let new = self.path.with_extension("new");
        fs::write(&new, text)?;
        fs::rename(new, &self.path)
    }
}
