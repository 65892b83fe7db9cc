//! Dates in cookies. Servers write them in more ways than HTTP has; RFC 6265 (section 5.1.1) says what to look for.

use std::time::{Duration, SystemTime};

const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];

/// The point in time that `text` names. One before 1970 is 1970.
pub(super) fn parse(text: &str) -> Option<SystemTime> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    // Whatever separates them: the first word that can be each of the four is it.
    let is_delimiter = |c: char| !c.is_ascii_alphanumeric() && c != ':';
    for word in text.split(is_delimiter).filter(|word| !word.is_empty()) {
        if time.is_none() && word.contains(':') {
            time = Some(clock(word)?);
        } else if let (None, Some(number)) = (day, number(word, 1, 2)) {
            day = Some(number);
        } else if let (None, Some(number)) = (month, month_of(word)) {
            month = Some(number);
        } else if let (None, Some(number)) = (year, number(word, 2, 4)) {
            year = Some(match number {
                // Two digits, as the cookies of the nineties had them (RFC 6265, section 5.1.1, step 3).
                70..=99 => number + 1900,
                0..=69 => number + 2000,
                number => number,
            });
        }
    }
    let (time, day, month, year) = (time?, day?, month?, year?);
    // Anything else is no date, and a cookie without one ends with its jar.
    let is_date = (1..=days_in(month, year)).contains(&day) && year >= 1601;
    let days = is_date.then(|| days_since_1970(year, month, day))?;
    // A date before 1970 takes a cookie back like any other that has passed.
    let seconds = u64::try_from(days).map_or(0, |days| days * 86_400 + time);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Seconds since midnight.
fn clock(word: &str) -> Option<u64> {
    let mut parts = word.split(':').map(|part| number(part, 1, 2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    // A leap second is none of these, and such a date is none.
    let is_time = parts.next().is_none() && hour < 24 && minute < 60 && second < 60;
    is_time.then(|| u64::try_from(hour * 3600 + minute * 60 + second).unwrap_or_default())
}

fn number(word: &str, least: usize, most: usize) -> Option<i64> {
    let is_number = (least..=most).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| word.parse().ok())?
}

fn month_of(word: &str) -> Option<i64> {
    // `September` and `Sept` are months as well: only three letters count.
    let start = word.get(..3)?.to_ascii_lowercase();
    let index = MONTHS.iter().position(|month| **month == start)?;
    i64::try_from(index + 1).ok()
}

fn days_in(month: i64, year: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, in the Gregorian calendar. Years are counted from March, so that the leap day is the last one.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_servers_write_them() {
        let expected = httpdate::parse_http_date("Wed, 09 Nov 1994 23:45:16 GMT").expect("a date");
        for text in [
            "Wed, 09 Nov 1994 23:45:16 GMT",
            "Wed, 09-Nov-1994 23:45:16 GMT",
            "Wednesday, 09-Nov-94 23:45:16 GMT",
            "Wed Nov  9 23:45:16 1994",
            "9 november 1994 23:45:16",
            "1994/Nov/09 23:45:16",
        ] {
            let read = parse(text);
            // The first number of two digits is the day, wherever it stands, so a year in front has to have four.
            assert_eq!(read, Some(expected), "{text}");
        }
        for day in [0, 1, 59, 60, 365, 366, 10_000, 11_016, 20_000, 40_000] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(day * 86_400 + 3_723);
            assert_eq!(parse(&httpdate::fmt_http_date(time)), Some(time), "{day}");
        }
        assert_eq!(
            parse("Mon, 01 Jan 1900 00:00:00 GMT"),
            Some(SystemTime::UNIX_EPOCH)
        );
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "tomorrow",
            "09 Nov 1994",
            "23:45:16",
            "31 Feb 2020 00:00:00",
            "1 Jan 1500 00:00:00",
            "1 Jan 2020 24:00:00",
            "1 Jan 2020 1:2",
            "32 Jan 2020 00:00:00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
