//! The packets of one logical stream, each at its place on the time line.
//!
//! A page says where its last packet ends, and each packet says how long it is: so all packets of a page have their places,
//! whatever is missing before it.
//!
//! ```text
//!   page      [ …│ packet │ packet │ pack ]  [ et │ packet │ … ]
//!   granule                        ▲              (of the last packet that ends here)
//!   a lost page                              [ ~~~~~~~~~~~~ ]  [ …│ packet │ packet ]
//!   given out   packet   packet                a lost packet,     packet   packet
//!                                              as long as that
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::{
    head::{Head, Length},
    page::{LONGEST, Page, Pages},
    placed, signed, unsigned,
};
use crate::decode::{
    DecodeError,
    error::MalformedSnafu,
    file::{input::Input, reader::Placed},
};

/// The longest packet that is put together from pages.
const LONGEST_PACKET: usize = 16 << 20;

/// So many missing pages are believed, and their length is told as silence.
const MOST_MISSING: u32 = 64;

/// The most probes of one seek.
const PROBES: usize = 48;

/// What comes next.
pub(super) enum Found {
    Packet(Placed),
    /// Another part of the chain begins here.
    Link(u64),
    End,
}

/// Reads one logical stream.
pub(super) struct Packets {
    pub(super) pages: Pages,
    end: Option<u64>,
    serial: u32,
    pub(super) head: Head,
    /// The position of raw frame 0 by the stream's own count.
    zero: i64,
    /// How many raw frames before the first one of sound there are at least.
    priming: u64,
    /// Where the last packet of all ends, and how many frames of it are padding.
    tail: Option<(i64, u64)>,
    /// Behind the headers: the place, and the number of the page before.
    begin: (u64, u32),
    /// The beginning of a packet that goes on on the next page.
    partial: Option<BytesMut>,
    /// The number of the last page; `None` behind a jump.
    sequence: Option<u32>,
    granule: Option<i64>,
    /// How many pages are missing before the next packet.
    missing: u32,
    /// Where the next packet begins, if it follows the last one; `None` behind a jump.
    expected: Option<u64>,
    waiting: VecDeque<Placed>,
}

impl Packets {
    /// The first stream of sound among those that begin where `pages` is. What is behind `end` belongs to others. After an
    /// error `pages` is where it was.
    ///
    /// # Errors
    ///
    /// `UnsupportedCodec`, `Malformed`, `Io`, `Interrupted`.
    pub(super) fn open(input: &Input, pages: &mut Pages, end: Option<u64>) -> Result<Self, DecodeError> {
        pages.keep();
        match Self::read(input, pages, end) {
            Ok(mut new) => {
                pages.forget();
                new.pages = std::mem::replace(pages, Pages::none());
                Ok(new)
            }
            Err(error) => {
                pages.restore();
                Err(error)
            }
        }
    }

    fn read(input: &Input, pages: &mut Pages, end: Option<u64>) -> Result<Self, DecodeError> {
        let (mut found, mut refused) = (None, None);
        // All streams begin before any goes on.
        let mut next = pages.next(input)?;
        while let Some(page) = next.take_if(|page| page.is_first()) {
            let first = page.pieces().into_iter().next().unwrap_or_default().0;
            match Head::read(&first) {
                // The first one: a second language has no say here.
                Ok(head) if found.is_none() => found = Some((page.serial, page.sequence, head)),
                Ok(_) => {}
                Err(error) => refused = Some(error),
            }
            next = pages.next(input)?;
        }
        let Some((serial, sequence, head)) = found else {
            return Err(refused.unwrap_or_else(|| MalformedSnafu { what: "Ogg stream" }.build()));
        };
        let mut new = Self {
            pages: Pages::none(),
            end,
            serial,
            head,
            zero: 0,
            priming: 0,
            tail: None,
            begin: (next.as_ref().map_or(0, |page| page.start), sequence),
            partial: None,
            sequence: Some(sequence),
            granule: None,
            missing: 0,
            expected: Some(0),
            waiting: VecDeque::new(),
        };
        // On the same pages: a stream cannot be read from its start twice.
        new.read_headers(input, pages, next)?;
        if !new.head.is_complete() {
            return MalformedSnafu { what: "Ogg stream" }.fail();
        }
        new.read_tail(input)?;
        Ok(new)
    }

    /// Reads up to the first page on which a packet of sound ends, if there is one.
    fn read_headers(
        &mut self,
        input: &Input,
        pages: &mut Pages,
        mut next: Option<Page>,
    ) -> Result<(), DecodeError> {
        while let Some(page) = next.take() {
            if page.is_first() {
                pages.put_back(page);
                break;
            }
            if page.serial == self.serial
                && let Some(mut packets) = self.take(&page)
            {
                while packets.first().is_some_and(|packet| self.head.add(packet)) {
                    packets.remove(0);
                }
                if !packets.is_empty() {
                    self.calibrate(&page, &packets);
                    self.place(&page, packets);
                    break;
                }
                self.begin = (page.end, page.sequence);
                self.missing = 0;
            }
            next = pages.next(input)?;
        }
        Ok(())
    }

    /// Finds out where raw frame 0 is by the stream's own count, from its first page with sound.
    fn calibrate(&mut self, page: &Page, packets: &[Bytes]) {
        // On a copy: the packets are measured once more when they are placed.
        let mut head = self.head.clone();
        let lengths: Vec<Length> = packets.iter().filter_map(|packet| head.length(packet)).collect();
        let skip = lengths.first().map_or(0, |length| length.skip);
        let frames = lengths.iter().map(|length| length.frames).sum();
        // Pages that were damaged stand before this one: the count began with them. Pages that were never there do not: this
        // is where a listener joined a station, or where a file was cut.
        if !page.behind_garbage {
            self.missing = 0;
        }
        let zero = match page.granule {
            // What a stream of one page leaves out, it leaves out at the end.
            Some(granule) if self.missing == 0 && !page.is_last() => granule.saturating_sub(signed(frames)),
            _ => signed(skip).saturating_neg(),
        };
        // Opus and FLAC count all frames that are decoded. Vorbis counts those of sound.
        self.zero = if self.head.overlaps() { zero } else { zero.max(0) };
        let before = unsigned(self.zero.saturating_neg());
        self.priming = skip.max(self.head.pre_skip).max(before);
    }

    /// Finds the end, where that can be looked for.
    fn read_tail(&mut self, input: &Input) -> Result<(), DecodeError> {
        let Some(end) = self.end.filter(|_| input.is_seekable()) else {
            return Ok(());
        };
        // The last page and the one before it, which says where the last one begins.
        let start = end.saturating_sub(2 * LONGEST as u64).max(self.begin.0);
        let mut pages = Pages::new(start, Some(end));
        // A reader of its own, as this one stands at the start and is to stay there.
        let mut reader = self.at_rest();
        if start == self.begin.0 {
            reader.rewind();
        }
        while let Some(page) = pages.next(input)? {
            if page.is_first() {
                // A part with the same serial number, which is met when this one has been heard.
                if page.serial == self.serial {
                    break;
                }
                continue;
            }
            if page.serial != self.serial {
                continue;
            }
            let Some(packets) = reader.take(&page) else {
                continue;
            };
            // Behind a gap the length of what was lost is not known, and padding would be made of it.
            let before = reader.expected.filter(|_| reader.missing == 0);
            let frames = reader.place(&page, packets);
            if let Some(granule) = page.granule {
                let end = unsigned(granule.saturating_sub(self.zero));
                // The last packet is whole; the last page says where sound ends in it.
                let padding = before.map_or(0, |before| (before + frames).saturating_sub(end));
                self.tail = Some((granule, padding));
            }
            reader.waiting.clear();
        }
        Ok(())
    }

    /// A reader like this one that has read nothing yet.
    fn at_rest(&self) -> Self {
        let mut head = self.head.clone();
        // The first packet that it reads overlaps with nothing.
        head.interrupt();
        Self {
            pages: Pages::none(),
            end: self.end,
            serial: self.serial,
            head,
            zero: self.zero,
            priming: self.priming,
            tail: None,
            begin: self.begin,
            partial: None,
            sequence: None,
            granule: None,
            missing: 0,
            expected: None,
            waiting: VecDeque::new(),
        }
    }

    /// Raw frames before the first one of sound.
    pub(super) fn priming(&self) -> u64 {
        self.priming
    }

    /// Raw frames of padding, and raw frames up to them, where the end was found.
    pub(super) fn tail(&self) -> Option<(u64, u64)> {
        let (granule, padding) = self.tail?;
        Some((padding, unsigned(granule.saturating_sub(self.zero))))
    }

    /// How many raw frames were given out; after the end that is how many there are.
    pub(super) fn given_out(&self) -> u64 {
        self.expected.unwrap_or(0)
    }

    /// The next packet.
    ///
    /// # Errors
    ///
    /// `Io`, `Interrupted`; the next call goes on where this one was.
    pub(super) fn next(&mut self, input: &Input) -> Result<Found, DecodeError> {
        loop {
            if let Some(placed) = self.waiting.pop_front() {
                return Ok(Found::Packet(placed));
            }
            let Some(page) = self.pages.next(input)? else {
                return Ok(Found::End);
            };
            if page.is_first() {
                let start = page.start;
                self.pages.put_back(page);
                return Ok(Found::Link(start));
            }
            if page.serial == self.serial
                && let Some(packets) = self.take(&page)
            {
                self.place(&page, packets);
            }
        }
    }

    /// Takes the packets that end on a page; `None` if it was there already.
    fn take(&mut self, page: &Page) -> Option<Vec<Bytes>> {
        // Numbers wrap around like everything in 32 bits.
        let step = self.sequence.map_or(1, |last| page.sequence.wrapping_sub(last));
        // Some writers number no pages, so that a number that stays says nothing by itself.
        if step == 0 && page.granule == self.granule {
            return None;
        }
        if step > 1 {
            self.missing = self.missing.saturating_add(step - 1);
            // What follows cannot be the rest of what was begun, nor overlap with what was last.
            self.partial = None;
            self.head.interrupt();
        }
        (self.sequence, self.granule) = (Some(page.sequence), page.granule);
        Some(self.assemble(page))
    }

    /// Puts the packets together that end on a page.
    fn assemble(&mut self, page: &Page) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let mut partial = self.partial.take();
        for (number, (piece, whole)) in page.pieces().into_iter().enumerate() {
            // Only the first piece of a page can be the rest of something.
            let continues = number == 0 && page.is_continued();
            let packet = match partial.take().filter(|_| continues) {
                Some(mut begun) if begun.len() + piece.len() <= LONGEST_PACKET => {
                    begun.extend_from_slice(&piece);
                    if !whole {
                        partial = Some(begun);
                        continue;
                    }
                    begun.freeze()
                }
                // Its beginning is lost.
                _ if continues => continue,
                _ if whole => piece,
                _ => {
                    partial = Some(BytesMut::from(piece));
                    continue;
                }
            };
            packets.push(packet);
        }
        self.partial = partial;
        packets
    }

    /// Gives the packets of a page their places; how many frames they are.
    fn place(&mut self, page: &Page, packets: Vec<Bytes>) -> u64 {
        let packets: Vec<(Bytes, Length)> = packets
            .into_iter()
            .filter_map(|packet| {
                let length = self.head.length(&packet)?;
                Some((packet, length))
            })
            .collect();
        let frames: u64 = packets.iter().map(|(_, length)| length.frames).sum();
        let Some((_, first)) = packets.first() else {
            return 0;
        };
        let skip = first.skip;
        let missing = std::mem::take(&mut self.missing);
        let (mut start, mut end) = self.span(page, missing > 0, frames);
        if let Some(expected) = self.expected {
            // A page holds 255 packets at most. A count that jumps by more than can be missing is another one, and no silence.
            let pages = u64::from(missing.min(MOST_MISSING)) + 1;
            let beyond = start.saturating_sub(expected);
            if beyond > pages * 255 * self.head.longest() {
                self.zero = self.zero.saturating_add(signed(beyond));
                (start, end) = (expected, end.saturating_sub(beyond));
            }
            // Half of the first packet behind what is missing has nothing to overlap with: it is lost with the rest.
            let lost = start.saturating_add(skip).saturating_sub(expected);
            if missing > 0 && lost > 0 {
                self.waiting.push_back(placed(Bytes::new(), expected, lost));
                // A page that ends within what was lost plays nothing, and takes nothing back.
                end = end.max(expected.saturating_add(lost));
            }
        }
        let mut at = start;
        for (data, length) in packets {
            let mut placed = placed(data, at, length.frames);
            placed.skip_start = length.skip;
            at = at.saturating_add(length.frames);
            placed.skip_end = at.saturating_sub(end).min(length.frames);
            self.waiting.push_back(placed);
        }
        self.expected = Some(end);
        frames
    }

    /// Where the frames of a page begin, and where those that are heard end.
    fn span(&self, page: &Page, lost: bool, frames: u64) -> (u64, u64) {
        let follows = self.expected.filter(|_| !lost);
        let Some(granule) = page.granule else {
            // No page like this should be. What it holds follows what was before.
            let start = self.expected.unwrap_or(0);
            return (start, start.saturating_add(frames));
        };
        let end = unsigned(granule.saturating_sub(self.zero));
        match follows {
            // The count went back: it is not believed.
            Some(expected) if end < expected => (expected, expected.saturating_add(frames)),
            Some(expected) => (end.saturating_sub(frames).max(expected), end),
            None => {
                // The last page ends before its frames do.
                let tail = self.tail.filter(|(end, _)| *end == granule);
                let padding = tail.map_or(0, |(_, padding)| padding);
                let start = end.saturating_add(padding).saturating_sub(frames);
                let start = start.max(self.expected.unwrap_or(0));
                (start, end.max(start))
            }
        }
    }

    /// Goes to a place from which packets lead to raw frame `frame`.
    ///
    /// # Errors
    ///
    /// `Io`, `Interrupted`.
    pub(super) fn seek(&mut self, input: &Input, frame: u64) -> Result<(), DecodeError> {
        let place = self.page_before(input, self.zero.saturating_add(signed(frame)))?;
        let mut fresh = self.at_rest();
        fresh.tail = self.tail;
        fresh.pages = Pages::new(place, self.end);
        if place == self.begin.0 {
            fresh.rewind();
        }
        *self = fresh;
        Ok(())
    }

    /// The next page is the first one behind the headers.
    fn rewind(&mut self) {
        self.sequence = Some(self.begin.1);
        self.expected = Some(0);
    }

    /// Where the last page begins that ends at or before `goal`, or else the first one.
    fn page_before(&self, input: &Input, goal: i64) -> Result<u64, DecodeError> {
        let (begin, _) = self.begin;
        let end = self.end.or_else(|| input.len()).unwrap_or(begin);
        // Counts grow with the place: `low` is at or before the page sought, `high` behind it.
        let (mut low, mut high) = ((begin, self.zero), (end, self.tail.map(|(last, _)| last)));
        for number in 0..PROBES {
            let bytes = high.0.saturating_sub(low.0);
            if bytes <= 2 * LONGEST as u64 {
                break;
            }
            // As far between them as the goal is, a little before that; halves in between, so that it ends in any case.
            let share = match high.1.and_then(|last| last.checked_sub(low.1)) {
                Some(frames) if number % 2 == 0 && frames > 0 => {
                    let ahead = u128::from(unsigned(goal.saturating_sub(low.1)));
                    let share = u128::from(bytes) * ahead / u128::from(unsigned(frames).max(1));
                    u64::try_from(share)
                        .unwrap_or(bytes)
                        .saturating_sub(LONGEST as u64)
                }
                _ => bytes / 2,
            };
            let place = low.0 + share.clamp(1, bytes - 1);
            match self.probe(input, place, high.0)? {
                Some((start, granule)) if granule <= goal => low = (start, granule),
                Some((_, granule)) => high = (place, Some(granule)),
                None => high.0 = place,
            }
        }
        let mut pages = Pages::new(low.0, self.end);
        let mut found = begin;
        while let Some(page) = pages.next(input)? {
            if page.is_first() {
                break;
            }
            if page.serial == self.serial
                && let Some(granule) = page.granule
            {
                if granule > goal {
                    break;
                }
                found = page.start;
            }
        }
        Ok(found)
    }

    /// The first page of this stream between two places on which a packet ends, and where that is.
    fn probe(&self, input: &Input, place: u64, before: u64) -> Result<Option<(u64, i64)>, DecodeError> {
        let mut pages = Pages::new(place, self.end);
        while let Some(page) = pages.next_before(input, before)? {
            if page.is_first() {
                return Ok(None);
            }
            if page.serial == self.serial
                && let Some(granule) = page.granule
            {
                return Ok(Some((page.start, granule)));
            }
        }
        Ok(None)
    }
}
