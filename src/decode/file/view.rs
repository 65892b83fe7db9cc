//! A part of an input, as Symphonia's readers read it.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::{Bytes, BytesMut};
use symphonia::core::io::MediaSource;

use super::input::{Inner, Input};

/// A part of an input behind a head of our own making, as one of Symphonia's sources.
///
/// ```text
///   input    [ tags │ header │ … │ frames … frames │ tags ]
///   view     [ head ]            [ frames … frames ]
/// ```
pub(super) struct View {
    input: Input,
    head: Bytes,
    start: u64,
    end: Option<u64>,
    position: u64,
    hides_tag: bool,
    /// What was read of a stream and not given out: its last bytes may be the tag. `None` where the end is known.
    held: Option<BytesMut>,
}

/// The length of an `ID3v1` tag.
const TAG: usize = 128;

impl View {
    /// `head`, then the input's bytes from `start` to `end`.
    pub(super) fn new(input: Input, head: Bytes, start: u64, end: Option<u64>) -> Self {
        Self {
            input,
            head,
            start,
            end,
            position: 0,
            hides_tag: false,
            held: None,
        }
    }

    /// Ends before an `ID3v1` tag at the end of the input. It is looked for when it is reached: to look earlier costs a request
    /// before the first sound. A stream is read as much ahead as the tag is long.
    pub(super) fn hides_tag(mut self) -> Self {
        self.hides_tag = true;
        self.held = (!self.input.goes_back() || self.input.len().is_none()).then(BytesMut::new);
        self
    }

    /// Reads a stream at `at`, all but the tag that may be its end.
    fn read_held(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(held) = &mut self.held else {
            return Ok(0);
        };
        let mut ended = false;
        // One byte more than a tag has: the first one of what is held is sound then.
        while held.len() <= TAG && !ended {
            let mut more = [0; 4096];
            let from = at + held.len() as u64;
            let read = self.input.with(|inner| inner.read_at(from, &mut more));
            let count = read.unwrap_or_else(|| Err(io::ErrorKind::ResourceBusy.into()))?;
            held.extend_from_slice(more.get(..count).unwrap_or_default());
            ended = count == 0;
        }
        // Exactly as long, as all before it has been given out.
        let is_tag = held.len() == TAG && held.starts_with(b"TAG");
        let last = if !ended || is_tag { TAG } else { 0 };
        let given = held.split_to((held.len() - last).min(buffer.len()));
        for (into, from) in buffer.iter_mut().zip(&given) {
            *into = *from;
        }
        Ok(given.len())
    }

    /// How many bytes may be read at `at` without reading into the tag.
    fn before_tag(&self, inner: &mut Inner, at: u64) -> io::Result<u64> {
        let tag = inner.source.len().and_then(|len| len.checked_sub(128));
        let Some(tag) = tag.filter(|_| self.hides_tag && inner.source.is_seekable()) else {
            return Ok(u64::MAX);
        };
        if at != tag {
            return Ok(tag.checked_sub(at).unwrap_or(u64::MAX));
        }
        // Where the tag would begin: read apart, so that no byte of it goes out with sound.
        let mut mark = [0; 3];
        let read = inner.read_at(tag, &mut mark)?;
        Ok(if read == 3 && mark == *b"TAG" { 0 } else { u64::MAX })
    }
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let in_head = usize::try_from(self.position)
            .ok()
            .and_then(|at| self.head.get(at..))
            .filter(|head| !head.is_empty());
        let count = if let Some(head) = in_head {
            for (into, from) in buffer.iter_mut().zip(head) {
                *into = *from;
            }
            head.len().min(buffer.len())
        } else if self.held.is_some() {
            let at = self.start + (self.position - self.head.len() as u64);
            self.read_held(at, buffer)?
        } else {
            let at = self.start + (self.position - self.head.len() as u64);
            // Reads end at the view's own end, whatever the file has behind it.
            let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(at));
            let read = self.input.with(|inner| {
                let left = left.min(self.before_tag(inner, at)?);
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                inner.read_at(at, buffer.get_mut(..most).unwrap_or_default())
            });
            read.unwrap_or_else(|| Err(io::ErrorKind::ResourceBusy.into()))?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
            SeekFrom::End(distance) => self
                .byte_len()
                .ok_or(io::ErrorKind::Unsupported)?
                .checked_add_signed(distance),
        };
        // Beyond the end too: a read there gives nothing, as with any file.
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl MediaSource for View {
    // Without a length Symphonia's readers must take it for unseekable: they look for the end of whatever can be sought in.
    fn is_seekable(&self) -> bool {
        self.byte_len().is_some() && self.input.goes_back()
    }

    fn byte_len(&self) -> Option<u64> {
        let end = self.end.or_else(|| self.input.len())?;
        Some(self.head.len() as u64 + end.saturating_sub(self.start))
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use std::sync::Arc;

    use super::super::input::tests::Dripping;
    use super::*;

    fn numbers(length: usize) -> Vec<u8> {
        (0..length).map(|n| (n % 251) as u8).collect()
    }

    #[test]
    fn a_view_is_its_head_and_a_part_of_the_input() {
        let all = numbers(1000);
        let input = Input::from_reader(io::Cursor::new(all.clone())).unwrap();
        let mut view = View::new(input, Bytes::from_static(b"head"), 100, Some(900));
        let want = [b"head", &all[100..900]].concat();
        assert_eq!(view.byte_len(), Some(804));
        let mut read = Vec::new();
        view.read_to_end(&mut read).unwrap();
        assert_eq!(read, want);
        view.seek(SeekFrom::End(-5)).unwrap();
        read.clear();
        view.read_to_end(&mut read).unwrap();
        assert_eq!(read, want[799..]);
    }

    #[test]
    fn a_stream_s_tag_is_hidden_and_nothing_else() {
        for (tag, length) in [
            (&b"TAG"[..], 10_000),
            (b"TAB", 10_000),
            (b"TAG", 4096),
            (b"no", 127),
        ] {
            let mut all = numbers(length);
            let end = length.saturating_sub(128);
            all[end..end + tag.len()].copy_from_slice(tag);
            let input = Input::new(Dripping(all.clone()), Arc::new(|| {}));
            let mut view = View::new(input, Bytes::from_static(b"head"), 0, None).hides_tag();
            let mut read = Vec::new();
            view.read_to_end(&mut read).unwrap();
            let end = if tag == b"TAG" { end } else { length };
            assert_eq!(read, [b"head", &all[..end]].concat());
        }
    }

    #[test]
    fn a_tag_at_the_end_is_hidden_and_nothing_else() {
        for tag in [&b"TAG"[..], b"TAB"] {
            let mut all = numbers(1000);
            all[872..875].copy_from_slice(tag);
            let input = Input::from_reader(io::Cursor::new(all.clone())).unwrap();
            let mut view = View::new(input, Bytes::new(), 10, None).hides_tag();
            let mut read = Vec::new();
            view.read_to_end(&mut read).unwrap();
            assert_eq!(read, all[10..if tag == b"TAG" { 872 } else { 1000 }]);
        }
    }
}
