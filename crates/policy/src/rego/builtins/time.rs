//! Time, in nanoseconds since 1970, in UTC.

use super::{Answer, Builtin, Call, Outcome, Parameter as P, Special, function, special, text};
use crate::rego::value::Value;

pub(super) const TABLE: &[Builtin] = &[
    special(
        function("time.clock", &[P::Moment], Answer::ThreeNumbers, clock),
        Special::Moment,
    ),
    special(
        function("time.date", &[P::Moment], Answer::ThreeNumbers, date),
        Special::Moment,
    ),
    function("time.now_ns", &[], Answer::Number, now),
    special(
        function("time.parse_rfc3339_ns", &[P::Text], Answer::Number, parse),
        Special::Timestamp,
    ),
    special(
        function("time.weekday", &[P::Moment], Answer::Text, weekday),
        Special::Moment,
    ),
];

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

fn now(call: &mut Call<'_>, _: &[Value]) -> Outcome {
    Ok(Some(Value::Number(call.now.into())))
}

/// The days since 1970 and the seconds of the day.
fn moment(arguments: &[Value]) -> Option<(i64, i64)> {
    let value = match arguments.first()? {
        Value::Array(parts) => parts.first()?,
        value => value,
    };
    let seconds = i64::try_from(value.as_number()?).ok()?.div_euclid(SECOND);
    Some((seconds.div_euclid(DAY), seconds.rem_euclid(DAY)))
}

fn three(one: i64, two: i64, three: i64) -> Value {
    Value::array(
        [one, two, three]
            .map(|part| Value::Number(part.into()))
            .to_vec(),
    )
}

fn clock(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(moment(arguments).map(|(_, second)| three(second / 3600, second / 60 % 60, second % 60)))
}

fn weekday(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let name = moment(arguments).and_then(|(days, _)| {
        // 1970 began on a Thursday.
        let day = usize::try_from((days + 4).rem_euclid(7)).ok()?;
        WEEKDAYS.get(day)
    });
    Ok(name.map(|name| Value::from(*name)))
}

/// The calendar repeats every 400 years; years begin in March, so that a leap day is the last.
fn date(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    Ok(moment(arguments).map(|(days, _)| {
        let days = days + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + i64::from(month <= 2);
        three(year, month, day)
    }))
}

fn days_from(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn parse(_: &mut Call<'_>, arguments: &[Value]) -> Outcome {
    let parsed = arguments.first().and_then(text).and_then(timestamp);
    Ok(parsed.map(|ns| Value::Number(ns.into())))
}

/// A time such as `2026-11-30T09:00:00.5+09:00`, in the strict form of RFC 3339.
pub(in crate::rego) fn timestamp(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits
            .bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| digits.parse().ok())?
    };
    let is = |at: usize, wanted: &str| text.get(at..at + 1) == Some(wanted);
    let marks = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
    if !text.is_ascii() || !marks.iter().all(|(at, wanted)| is(*at, wanted)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(after.bytes().take_while(u8::is_ascii_digit).count()),
        None => ("", rest),
    };
    if (rest.starts_with('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let nanos: i64 = format!("{fraction:0<9}").parse().ok()?;
    let offset = offset(zone)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    // Beyond these years OPA's numbers of nanoseconds end.
    if !(1..=last).contains(&day) || !(1700..=2200).contains(&year) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = hour * 3600 + minute * 60 + second - offset;
    let seconds = days_from(year, month, day) * DAY + of_day;
    seconds.checked_mul(SECOND)?.checked_add(nanos)
}

fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, clock) = match zone.split_at_checked(1)? {
        ("+", clock) => (1, clock),
        ("-", clock) => (-1, clock),
        _ => return None,
    };
    let (hours, minutes) = clock.split_once(':')?;
    let two = |part: &str| -> Option<i64> {
        (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}
