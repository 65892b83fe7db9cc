//! Pages (RFC 3533, 6): found by their mark, believed by their checksum.
//!
//! ```text
//!   OggS │ 0 │ flags │ granule │ serial │ sequence │ checksum │ n │ n lacing values │ body
//!     4    1     1        8         4          4          4      1        n
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use symphonia::core::{checksum::Crc32, io::Monitor};

use crate::decode::{
    DecodeError,
    demux::buffer::Buffer,
    file::input::{CHUNK, Input},
};

/// Up to the lacing values.
const HEADER: usize = 27;

/// The longest page: header, 255 lacing values, 255 segments of 255 bytes.
pub(super) const LONGEST: usize = HEADER + 255 + 255 * 255;

/// One page whose checksum holds.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bytes that are no page stand before it.
    pub(super) behind_garbage: bool,
    flags: u8,
    /// Where the last packet that ends on this page ends; `None` if none does.
    pub(super) granule: Option<i64>,
    pub(super) serial: u32,
    pub(super) sequence: u32,
    lacing: Bytes,
    body: Bytes,
}

impl Page {
    /// Its first bytes belong to a packet that began on an earlier page.
    pub(super) fn is_continued(&self) -> bool {
        self.flags & 1 != 0
    }

    /// The first page of its logical stream.
    pub(super) fn is_first(&self) -> bool {
        self.flags & 2 != 0
    }

    /// The last page of its logical stream.
    pub(super) fn is_last(&self) -> bool {
        self.flags & 4 != 0
    }

    /// The parts of packets on this page, and whether each ends here.
    pub(super) fn pieces(&self) -> Vec<(Bytes, bool)> {
        let mut pieces = Vec::new();
        // Slices of the page, without a copy.
        let (mut rest, mut length) = (self.body.clone(), 0);
        for &lacing in &self.lacing {
            length += usize::from(lacing);
            // A packet ends with the first segment that is not full, be that one empty.
            if lacing < 255 {
                pieces.push((rest.split_to(length.min(rest.len())), true));
                length = 0;
            }
        }
        // It goes on on the next page of its stream.
        if length > 0 {
            pieces.push((rest, false));
        }
        pieces
    }
}

/// What stands at the front of the buffer.
enum Front {
    Page(usize),
    /// So many bytes that are no page.
    Garbage(u64),
    /// It cannot be told yet.
    Short,
}

/// Pages from a place on. Bytes that are none are passed over.
pub(super) struct Pages {
    buffer: Buffer,
    /// Where the buffer's first byte of all was, and the next one to read is.
    base: u64,
    read_to: u64,
    end: Option<u64>,
    all: bool,
    garbage: bool,
    /// Pages that are next again, the first one first.
    held: VecDeque<Page>,
    /// Those that were given out since [`Pages::keep`].
    kept: Option<Vec<Page>>,
}

impl Pages {
    pub(super) fn new(start: u64, end: Option<u64>) -> Self {
        Self {
            buffer: Buffer::default(),
            base: start,
            read_to: start,
            end,
            all: false,
            garbage: false,
            held: VecDeque::new(),
            kept: None,
        }
    }

    /// No pages at all.
    pub(super) fn none() -> Self {
        Self::new(0, Some(0))
    }

    /// `page` is the next one again.
    pub(super) fn put_back(&mut self, page: Page) {
        // It will be given out, and kept, once more.
        if let Some(kept) = &mut self.kept {
            kept.pop();
        }
        self.held.push_front(page);
    }

    /// The pages from here on are kept until [`forget`](Self::forget).
    pub(super) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    pub(super) fn forget(&mut self) {
        self.kept = None;
    }

    /// The pages that were kept are the next ones again. A source that cannot go back would not give them twice.
    pub(super) fn restore(&mut self) {
        for page in self.kept.take().into_iter().flatten().rev() {
            self.held.push_front(page);
        }
    }

    /// The next page. After an error it goes on where it was.
    ///
    /// # Errors
    ///
    /// `Io`, `Interrupted`.
    pub(super) fn next(&mut self, input: &Input) -> Result<Option<Page>, DecodeError> {
        self.next_before(input, u64::MAX)
    }

    /// The next page, if it begins before `limit`. No more is read than it takes to know.
    ///
    /// # Errors
    ///
    /// `Io`, `Interrupted`.
    pub(super) fn next_before(&mut self, input: &Input, limit: u64) -> Result<Option<Page>, DecodeError> {
        let page = match self.held.pop_front() {
            Some(held) => Some(held),
            None => self.find(input, limit)?,
        };
        if let (Some(kept), Some(page)) = (&mut self.kept, &page) {
            kept.push(page.clone());
        }
        Ok(page)
    }

    fn find(&mut self, input: &Input, limit: u64) -> Result<Option<Page>, DecodeError> {
        loop {
            // Garbage may reach beyond it: looked at after each step, so that a bisection never reads into its other half.
            if self.place() >= limit {
                return Ok(None);
            }
            match self.front() {
                Front::Page(length) => return Ok(self.take(length)),
                Front::Garbage(length) => {
                    self.buffer.skip(length);
                    self.garbage = true;
                }
                Front::Short if !self.all => self.read(input)?,
                Front::Short if self.buffer.len() == 0 => return Ok(None),
                // A damaged length reaches beyond the end. Whole pages may stand within it.
                Front::Short => {
                    self.buffer.skip(1);
                    self.garbage = true;
                }
            }
        }
    }

    fn place(&self) -> u64 {
        self.base + self.buffer.position()
    }

    fn read(&mut self, input: &Input) -> Result<(), DecodeError> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.read_to));
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
        let more = if most == 0 {
            Bytes::new()
        } else {
            input.some_at(self.read_to, most)?
        };
        self.read_to += more.len() as u64;
        self.all = more.is_empty();
        self.buffer.push(more);
        Ok(())
    }

    fn front(&mut self) -> Front {
        let Some(header) = self.buffer.peek(HEADER) else {
            return Front::Short;
        };
        if !header.starts_with(b"OggS\0") {
            // At least this byte is no page, and neither is what comes before the next one like a page's first.
            let others = self.buffer.front().iter().skip(1);
            let garbage = 1 + others.take_while(|byte| **byte != b'O').count();
            return Front::Garbage(garbage as u64);
        }
        let segments = header.last().copied().map_or(0, usize::from);
        let Some(header) = self.buffer.peek(HEADER + segments) else {
            return Front::Short;
        };
        let lacing = header.get(HEADER..).unwrap_or_default();
        let length = HEADER + segments + lacing.iter().map(|lacing| usize::from(*lacing)).sum::<usize>();
        match self.buffer.peek(length) {
            None => Front::Short,
            Some(page) if is_whole(page) => Front::Page(length),
            // The mark alone: its length is not to be believed either.
            Some(_) => Front::Garbage(1),
        }
    }

    fn take(&mut self, length: usize) -> Option<Page> {
        let start = self.place();
        let whole = self.buffer.take(length)?;
        let word = |at: usize| Some(u32::from_le_bytes(whole.get(at..at + 4)?.try_into().ok()?));
        let granule = i64::from_le_bytes(whole.get(6..14)?.try_into().ok()?);
        let body = HEADER + usize::from(*whole.get(HEADER - 1)?);
        Some(Page {
            start,
            end: start + length as u64,
            behind_garbage: std::mem::take(&mut self.garbage),
            flags: *whole.get(5)?,
            granule: (granule != -1).then_some(granule),
            serial: word(14)?,
            sequence: word(18)?,
            lacing: whole.slice(HEADER..body),
            body: whole.slice(body..),
        })
    }
}

/// A page of one packet.
#[cfg(any(test, fuzzing))]
pub(in crate::decode) fn one_page(
    serial: u32,
    sequence: u32,
    flags: u8,
    granule: i64,
    packet: &[u8],
) -> Vec<u8> {
    let lacing = vec![255; (packet.len() / 255).min(254)];
    let packet = packet.get(..packet.len().min(254 * 255)).unwrap_or_default();
    let mut page = b"OggS\0".to_vec();
    page.push(flags);
    page.extend(granule.to_le_bytes());
    page.extend(serial.to_le_bytes());
    page.extend(sequence.to_le_bytes());
    page.extend([0; 4]);
    page.push(u8::try_from(lacing.len()).unwrap_or(254) + 1);
    page.extend(&lacing);
    page.push(u8::try_from(packet.len() - 255 * lacing.len()).unwrap_or(0));
    page.extend(packet);
    seal(&mut page);
    page
}

/// Writes a page's checksum.
#[cfg(any(test, fuzzing))]
pub(in crate::decode) fn seal(page: &mut [u8]) {
    if let Some(sum) = page.get_mut(22..26) {
        sum.fill(0);
    }
    let mut crc = Crc32::new(0);
    crc.process_buf_bytes(page);
    if let Some(sum) = page.get_mut(22..26) {
        sum.copy_from_slice(&crc.crc().to_le_bytes());
    }
}

/// Whether a page's checksum holds: it was made with 0 in its own place.
fn is_whole(page: &[u8]) -> bool {
    let (Some(before), Some(sum), Some(behind)) = (page.get(..22), page.get(22..26), page.get(26..)) else {
        return false;
    };
    let mut crc = Crc32::new(0);
    crc.process_buf_bytes(before);
    crc.process_buf_bytes(&[0; 4]);
    crc.process_buf_bytes(behind);
    sum == crc.crc().to_le_bytes()
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use std::io::Cursor;

    use super::*;

    pub(in crate::decode::file::ogg) use super::{one_page as page, seal};

    fn found(bytes: Vec<u8>) -> Vec<Page> {
        let input = Input::from_reader(Cursor::new(bytes)).unwrap();
        let mut pages = Pages::new(0, None);
        std::iter::from_fn(|| pages.next(&input).unwrap()).collect()
    }

    #[test]
    fn pages_are_found_between_garbage_and_behind_damage() {
        let [one, mut two, three] = [1, 2, 3].map(|number| page(7, number, 0, i64::from(number), &[9; 600]));
        two[100] ^= 1;
        let bytes = [&b"OgOggS"[..], &one, b"OggS\0", &two, &three, b"OggS\0\0\0"].concat();
        let pages = found(bytes);
        let numbers: Vec<_> = pages.iter().map(|page| page.sequence).collect();
        assert_eq!(numbers, [1, 3]);
        assert!(pages.iter().all(|page| page.behind_garbage));
        assert_eq!(pages[0].start, 6);
        assert_eq!(pages[0].end - pages[0].start, one.len() as u64);
    }

    #[test]
    fn a_length_that_was_turned_hides_no_page_behind_it() {
        let (mut first, second) = (page(7, 1, 0, 1, &[9; 20]), page(7, 2, 0, 2, &[9; 20]));
        // One lacing value more, and long ones.
        first[26] = 200;
        assert_eq!(found([first, second].concat()).len(), 1);
    }

    #[test]
    fn packets_end_where_a_segment_is_not_full() {
        for (length, pieces) in [(0, 1), (254, 1), (255, 1), (510, 1)] {
            let page = &found(page(1, 0, 0, 0, &vec![5; length]))[0];
            let found = page.pieces();
            assert_eq!(found.len(), pieces);
            assert_eq!((found[0].0.len(), found[0].1), (length, true));
        }
        let mut open = page(1, 0, 0, -1, &[5; 255]);
        // Without the empty segment that ends it.
        open[26] = 1;
        open.remove(28);
        seal(&mut open);
        let page = &found(open)[0];
        assert_eq!((page.granule, page.pieces()[0].1), (None, false));
    }
}
