//! Where the parts of a chained file begin.
//!
//! ```text
//!   [ BOS … EOS │ BOS ………… EOS │ BOS … EOS ]     each part has serial numbers of its own
//! ```
//!
//! Parts with the same serial numbers, as `cat` makes them, cannot be told apart by looking here and there. They are met where
//! they begin.

use super::page::{LONGEST, Page, Pages};
use crate::decode::{DecodeError, file::input::Input};

/// More parts than these are not told apart: what is behind them is not read.
const MOST: usize = 1024;

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
        // This part has the last page: no other one is behind it.
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
    let mut pages = Pages::new(from, Some(end));
    while let Some(page) = pages.next(input)? {
        // Pictures and texts have streams of their own beside the sound. More than these are no music.
        if !page.is_first() || serials.len() >= 16 {
            break;
        }
        serials.push(page.serial);
    }
    Ok(serials)
}

/// The first page behind `from` that is not of these serial numbers. Bisection: all pages before it are, none behind it is.
fn next_part(input: &Input, serials: &[u32], from: u64, last: u64) -> Result<Option<u64>, DecodeError> {
    let (mut low, mut high) = (from, last);
    // Nearer than two pages a bisection would only find the same page again; the rest is walked.
    while high - low > 2 * LONGEST as u64 {
        let middle = low + (high - low) / 2;
        match Pages::new(middle, None).next_before(input, high)? {
            Some(page) if serials.contains(&page.serial) => low = page.start.max(middle),
            Some(_) | None => high = middle,
        }
    }
    let mut pages = Pages::new(low, None);
    while let Some(page) = pages.next_before(input, last.saturating_add(1))? {
        if !serials.contains(&page.serial) {
            return Ok(Some(page.start));
        }
    }
    Ok(None)
}

fn last_page(input: &Input, start: u64, end: u64) -> Result<Option<Page>, DecodeError> {
    // A page may be as long as this, and behind it may lie some bytes that are none.
    let mut pages = Pages::new(end.saturating_sub(2 * LONGEST as u64).max(start), Some(end));
    let mut last = None;
    while let Some(page) = pages.next(input)? {
        last = Some(page);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::Cursor;

    use super::{super::page::tests::page, *};

    fn part(serial: u32, pages: usize) -> Vec<u8> {
        let mut bytes = page(serial, 0, 2, 0, &[7; 30]);
        for number in 0..pages {
            bytes.extend(page(serial, 1, 0, 0, &vec![7; number * 977 % 60_000]));
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
        let start = *begins.first().unwrap();
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
