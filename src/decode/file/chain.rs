//! Where the parts of a chained Ogg file begin.
//!
//! ```text
//!   [ BOS … EOS │ BOS ………… EOS │ BOS … EOS ]     each part has serial numbers of its own
//! ```

use super::input::Input;
use crate::decode::DecodeError;

/// The longest page: header, 255 lacing values, 255 segments of 255 bytes.
const LONGEST: usize = 27 + 255 + 255 * 255;

/// More parts than these are not told apart: what is behind them is not read.
const MOST: usize = 1024;

/// A page's place and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Page {
    start: u64,
    end: u64,
    serial: u32,
    first: bool,
}

/// Where each part begins, and where the last one ends; one part if the file is not chained.
///
/// # Errors
///
/// `Io`, `Interrupted`.
pub(super) fn parts(input: &Input, start: u64, end: u64) -> Result<Vec<u64>, DecodeError> {
    let mut begins = vec![start];
    let Some(last) = last_page(input, start, end)? else {
        return Ok(begins);
    };
    let mut from = start;
    while begins.len() < MOST {
        let serials = serials_at(input, from, end)?;
        if serials.is_empty() || serials.contains(&last.serial) {
            break;
        }
        let Some(next) = next_part(input, &serials, from, last.start)? else {
            break;
        };
        begins.push(next);
        from = next;
    }
    Ok(begins)
}

/// The serial numbers of the part that begins at `from`: its first pages come before all others.
fn serials_at(input: &Input, from: u64, end: u64) -> Result<Vec<u32>, DecodeError> {
    let mut serials = Vec::new();
    let mut at = from;
    while let Some(page) = page_behind(input, at, end)? {
        if !page.first || serials.len() >= 16 {
            break;
        }
        serials.push(page.serial);
        at = page.end;
    }
    Ok(serials)
}

/// The first page behind `from` that is not of these serial numbers. Bisection: all pages before it are, none behind it is.
fn next_part(input: &Input, serials: &[u32], from: u64, last: u64) -> Result<Option<u64>, DecodeError> {
    let (mut low, mut high) = (from, last);
    while high - low > 2 * LONGEST as u64 {
        let middle = low + (high - low) / 2;
        match page_behind(input, middle, high)? {
            Some(page) if serials.contains(&page.serial) => low = page.start.max(middle),
            Some(_) | None => high = middle,
        }
    }
    let mut at = low;
    while let Some(page) = page_behind(input, at, last.saturating_add(1))? {
        if !serials.contains(&page.serial) {
            return Ok(Some(page.start));
        }
        at = page.end;
    }
    Ok(None)
}

fn last_page(input: &Input, start: u64, end: u64) -> Result<Option<Page>, DecodeError> {
    // A page may be as long as this, and behind it may lie some bytes that are none.
    let mut at = end.saturating_sub(2 * LONGEST as u64).max(start);
    let mut last = None;
    while let Some(page) = page_behind(input, at, end)? {
        last = Some(page);
        at = page.end;
    }
    Ok(last)
}

/// The first whole page that begins in `at..end`.
fn page_behind(input: &Input, at: u64, end: u64) -> Result<Option<Page>, DecodeError> {
    let mut from = at;
    while from < end {
        let most = usize::try_from(end - from).unwrap_or(usize::MAX);
        // Pages begin before `end`, and the last one may reach beyond it.
        let bytes = input.bytes_at(from, 2 * LONGEST)?;
        for (offset, _) in bytes.windows(4).enumerate().filter(|(_, four)| *four == b"OggS") {
            if offset >= most {
                return Ok(None);
            }
            if let Some(page) = bytes
                .get(offset..)
                .and_then(|rest| page(rest, from + offset as u64))
            {
                return Ok(Some(page));
            }
        }
        if bytes.len() <= LONGEST {
            return Ok(None);
        }
        from += (bytes.len() - LONGEST) as u64;
    }
    Ok(None)
}

/// The page at the start of `bytes`, if it is whole and its checksum holds (RFC 3533, 6).
fn page(bytes: &[u8], start: u64) -> Option<Page> {
    let flags = *bytes.get(5)?;
    let serial = u32::from_le_bytes(bytes.get(14..18)?.try_into().ok()?);
    let sum = u32::from_le_bytes(bytes.get(22..26)?.try_into().ok()?);
    let segments = usize::from(*bytes.get(26)?);
    let table = bytes.get(27..27 + segments)?;
    let length = 27 + segments + table.iter().map(|lacing| usize::from(*lacing)).sum::<usize>();
    let whole = bytes.get(..length)?;
    let mut crc = 0;
    for (at, byte) in whole.iter().enumerate() {
        crc = crc_step(crc, if (22..26).contains(&at) { 0 } else { *byte });
    }
    (bytes.get(4) == Some(&0) && crc == sum).then_some(Page {
        start,
        end: start + length as u64,
        serial,
        first: flags & 2 != 0,
    })
}

fn crc_step(crc: u32, byte: u8) -> u32 {
    let mut crc = crc ^ u32::from(byte) << 24;
    for _ in 0..8 {
        crc = if crc & 0x8000_0000 == 0 {
            crc << 1
        } else {
            crc << 1 ^ 0x04c1_1db7
        };
    }
    crc
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use std::io::Cursor;

    use super::*;

    fn page_of(serial: u32, flags: u8, length: usize) -> Vec<u8> {
        let mut page = b"OggS\0".to_vec();
        page.push(flags);
        page.extend([0; 8]);
        page.extend(serial.to_le_bytes());
        page.extend([0; 8]);
        page.push((length / 255 + 1) as u8);
        page.extend(vec![255; length / 255]);
        page.push((length % 255) as u8);
        page.extend(vec![7; length]);
        let crc = page.iter().fold(0, |crc, byte| crc_step(crc, *byte));
        page[22..26].copy_from_slice(&crc.to_le_bytes());
        page
    }

    fn part(serial: u32, pages: usize) -> Vec<u8> {
        let mut bytes = page_of(serial, 2, 30);
        for number in 0..pages {
            bytes.extend(page_of(serial, 0, number * 977 % 60_000));
        }
        bytes
    }

    #[test]
    fn each_part_of_a_chain_is_found() {
        let pages = [1, 300, 2, 40];
        let mut file = b"some tag before it".to_vec();
        let mut begins = Vec::new();
        for (serial, pages) in (1..).zip(pages) {
            begins.push(file.len() as u64);
            file.extend(part(serial, pages));
        }
        let start = begins[0];
        file.extend([0; 100]);
        let end = file.len() as u64;
        let input = Input::from_reader(Cursor::new(file)).unwrap();
        assert_eq!(parts(&input, start, end).unwrap(), begins);
    }

    #[test]
    fn a_file_that_is_not_chained_is_one_part() {
        let file = part(9, 100);
        let end = file.len() as u64;
        let input = Input::from_reader(Cursor::new(file)).unwrap();
        assert_eq!(parts(&input, 0, end).unwrap(), [0]);
    }
}
