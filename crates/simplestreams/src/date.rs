//! Dates of the proleptic Gregorian calendar, in UTC.

const SECONDS_PER_DAY: i64 = 86_400;
/// Days from 0000-03-01, where the calculation starts, to 1970-01-01.
const EPOCH: i64 = 719_468;
const DAYS_PER_400_YEARS: i64 = 146_097;

/// A date and the time of day, to the minute.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Date {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
}

impl Date {
    /// Returns the date of a Unix time, if its year has four digits.
    pub(crate) fn from_unix(seconds: i64) -> Option<Self> {
        let days = seconds.div_euclid(SECONDS_PER_DAY) + EPOCH;
        let in_day = seconds.rem_euclid(SECONDS_PER_DAY);
        // http://howardhinnant.github.io/date_algorithms.html#civil_from_days: years start in March, so that a leap day ends one.
        let era = days.div_euclid(DAYS_PER_400_YEARS);
        let day_of_era = days.rem_euclid(DAYS_PER_400_YEARS);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 {
            from_march + 3
        } else {
            from_march - 9
        };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        (0..=9999).contains(&year).then_some(Self {
            year,
            month,
            day: day_of_year - (153 * from_march + 2) / 5 + 1,
            hour: in_day / 3600,
            minute: in_day / 60 % 60,
        })
    }
}

/// Returns whether this is the eight digits of a date that exists.
pub(crate) fn is_date(text: &[u8]) -> bool {
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
    };
    text.len() == 8
        && text.iter().all(u8::is_ascii_digit)
        && (1..=12).contains(&number(&text[4..6]))
        && (1..=days_of_month(number(&text[..4]), number(&text[4..6]))).contains(&number(&text[6..]))
}

/// Returns whether this is a date such as `2024-12-31`.
pub(crate) fn is_dashed_date(text: &str) -> bool {
    match text.as_bytes() {
        [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] => is_date(&[*y1, *y2, *y3, *y4, *m1, *m2, *d1, *d2]),
        _ => false,
    }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_are_dates_in_utc() {
        let text = |seconds| {
            Date::from_unix(seconds).map(|date| {
                let Date {
                    year,
                    month,
                    day,
                    hour,
                    minute,
                } = date;
                format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
            })
        };
        // As `date -u -d @SECONDS` prints them.
        for (seconds, expected) in [
            (0, "1970-01-01 00:00"),
            (-1, "1969-12-31 23:59"),
            (951_782_399, "2000-02-28 23:59"),
            (951_782_400, "2000-02-29 00:00"),
            (951_868_800, "2000-03-01 00:00"),
            (1_700_000_000, "2023-11-14 22:13"),
            (4_107_542_400, "2100-03-01 00:00"),
            (253_402_300_799, "9999-12-31 23:59"),
        ] {
            assert_eq!(text(seconds).as_deref(), Some(expected));
        }
        assert_eq!(text(253_402_300_800), None);
        assert_eq!(text(i64::MAX), None);
        assert_eq!(text(i64::MIN), None);
    }

    #[test]
    fn only_existing_days_are_dates() {
        for text in ["20240229", "20000229", "00010101", "20231231"] {
            assert!(is_date(text.as_bytes()), "{text}");
        }
        for text in [
            "20230229", "19000229", "20231301", "20230001", "20230100", "20230431", "2023010", "2023010a", "+2023010",
        ] {
            assert!(!is_date(text.as_bytes()), "{text}");
        }
        assert!(is_dashed_date("2024-02-29"));
        assert!(!is_dashed_date("2024-2-29"));
        assert!(!is_dashed_date("2024/02/29"));
    }
}
