//! Dates as people write them, as ISO 8601: `12/02/2018`, `3. März 2024`, `Aug 3, 2014`, `2024-03-05`.
//!
//! Day before month, unless that gives no date, or the document is American.

use std::ops::Range;

/// A date in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub start: usize,
    pub end: usize,
}

impl Date {
    pub fn value(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    pub fn bytes(&self) -> Range<usize> {
        self.start..self.end
    }
}

/// Names of months, without accents; each is known by its first letters too, as far as they are in the list.
const MONTHS: [&[&str]; 12] = [
    &["january", "januar", "janvier", "enero", "gennaio", "januari", "janeiro", "jan", "ene", "gen", "janv"],
    &["february", "februar", "fevrier", "febrero", "febbraio", "februari", "fevereiro", "feb", "fev", "fevr"],
    &["march", "marz", "maerz", "mars", "marzo", "maart", "marco", "mar", "mrz", "mrt"],
    &["april", "avril", "abril", "aprile", "apr", "avr", "abr"],
    &["may", "mai", "mayo", "maggio", "mei", "maio", "mag"],
    &["june", "juni", "juin", "junio", "giugno", "junho", "jun", "giu"],
    &["july", "juli", "juillet", "julio", "luglio", "julho", "jul", "juil", "lug"],
    &["august", "aout", "agosto", "augustus", "aug", "ago", "agt"],
    &["september", "septembre", "septiembre", "settembre", "setembro", "sep", "sept", "set"],
    &["october", "oktober", "octobre", "octubre", "ottobre", "outubro", "oct", "okt", "ott", "out"],
    &["november", "novembre", "noviembre", "novembro", "nov"],
    &["december", "dezember", "decembre", "diciembre", "dicembre", "dezembro", "dec", "dez", "dic"],
];

#[derive(Debug, Clone, PartialEq)]
enum Token<'a> {
    Number(&'a str),
    /// A month's number.
    Month(u32),
    Separator(&'a str),
    Other,
}

/// The dates of a line, left to right. `month_first` for American documents.
pub(super) fn dates(text: &str, month_first: bool) -> Vec<Date> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match date_at(text, &tokens, at, month_first) {
            Some((date, used)) => {
                found.push(date);
                at += used;
            }
            None => at += 1,
        }
    }
    found
}

fn tokens(text: &str) -> Vec<(Token<'_>, usize, usize)> {
    let mut tokens: Vec<(Token<'_>, usize, usize)> = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((start, c)) = rest.next() {
        let class = |c: char| (c.is_ascii_digit(), c.is_alphabetic());
        let kind = class(c);
        let mut end = start + c.len_utf8();
        while let Some(&(at, next)) = rest.peek() {
            if class(next) != kind {
                break;
            }
            end = at + next.len_utf8();
            rest.next();
        }
        let piece = &text[start..end];
        let token = match kind {
            (true, _) => Token::Number(piece),
            (_, true) => month(piece).map_or(Token::Other, Token::Month),
            _ => Token::Separator(piece),
        };
        tokens.push((token, start, end));
    }
    tokens
}

fn month(word: &str) -> Option<u32> {
    if !(3..=12).contains(&word.len()) {
        return None;
    }
    let plain = super::sheet::plain(word);
    let index = MONTHS.iter().position(|names| names.contains(&plain.as_str()))?;
    u32::try_from(index + 1).ok()
}

fn date_at(text: &str, tokens: &[(Token<'_>, usize, usize)], at: usize, month_first: bool) -> Option<(Date, usize)> {
    let (first, start, _) = &tokens[at];
    // Part of a longer number or code: the same separator and a digit stand before it.
    let joint = text[..*start].chars().next_back().filter(|c| matches!(c, '.' | '/' | '-'));
    if let Some(joint) = joint
        && tokens[at].2 < text.len()
        && text[tokens[at].2..].starts_with(joint)
        && text[..*start - joint.len_utf8()].ends_with(|c: char| c.is_ascii_digit())
    {
        return None;
    }
    let token = |offset: usize| tokens.get(at + offset);
    let done = |year: i32, month: u32, day: u32, used: usize| {
        let end = tokens[at + used - 1].2;
        date(year, month, day, *start, end).map(|date| (date, used))
    };
    match first {
        Token::Number(one) => {
            // 20180312
            if one.len() == 8 && (one.starts_with("19") || one.starts_with("20")) {
                return done(number(&one[..4])?, positive(&one[4..6])?, positive(&one[6..])?, 1);
            }
            // 27032018
            if one.len() == 8 && one[4..].starts_with("20") {
                return done(number(&one[4..])?, positive(&one[2..4])?, positive(&one[..2])?, 1);
            }
            let mut next = 1;
            // "3rd", "1er", "2º"
            if let Some((Token::Other, _, _)) = token(next)
                && matches!(token(next + 1), Some((Token::Separator(_), _, _)))
                && text[tokens[at + 1].1..tokens[at + 1].2].len() <= 3
                && one.len() <= 2
            {
                next += 1;
            }
            let (Token::Separator(separator), ..) = token(next).map_or(&tokens[at], |t| t) else {
                // "12MAR2018"
                if let (Some((Token::Month(month), ..)), Some((Token::Number(year), ..))) = (token(1), token(2)) {
                    return done(full_year(year)?, *month, positive(one)?, 3);
                }
                return None;
            };
            if !is_separator(separator) {
                return None;
            }
            match token(next + 1)? {
                (Token::Month(month), ..) if one.len() <= 2 => {
                    let (skip, year) = year_after(text, tokens, at + next + 2)?;
                    done(full_year(year)?, *month, positive(one)?, next + 2 + skip)
                }
                // "3 de marzo de 2024"
                (Token::Other, from, to) if one.len() <= 2 && matches!(&text[*from..*to], "de" | "DE" | "of") => {
                    let (Token::Month(month), ..) = token(next + 3)? else { return None };
                    let (skip, year) = year_after(text, tokens, at + next + 4)?;
                    done(full_year(year)?, *month, positive(one)?, next + 4 + skip)
                }
                (Token::Number(two), ..) if next == 1 => {
                    let (Token::Separator(again), ..) = token(3)? else { return None };
                    let (Token::Number(three), ..) = token(4)? else { return None };
                    let same = separator.trim() == again.trim() || separator.trim().is_empty() || again.trim().is_empty();
                    if !is_separator(again) || !same || separator.trim().is_empty() && again.trim().is_empty() {
                        return None;
                    }
                    if one.len() == 4 {
                        return done(number(one)?, positive(two)?, positive(three)?, 5);
                    }
                    // "17/03/201721:35": no space before the time.
                    if three.len() == 6 && three.starts_with("20") && text[tokens[at + 4].2..].starts_with(':') {
                        let (day, month, year) = (positive(one)?, positive(two)?, number(&three[..4])?);
                        return date(year, month, day, *start, tokens[at + 4].1 + 4).map(|date| (date, 5));
                    }
                    if one.len() > 2 || two.len() > 2 || !matches!(three.len(), 2 | 4) {
                        return None;
                    }
                    // Behind it stands no more of a number.
                    let year = full_year(three)?;
                    let (a, b) = (positive(one)?, positive(two)?);
                    let orders = if month_first { [(a, b), (b, a)] } else { [(b, a), (a, b)] };
                    orders.into_iter().find_map(|(month, day)| done(year, month, day, 5))
                }
                _ => None,
            }
        }
        // "August 3, 2014"
        Token::Month(month) => {
            let (Token::Separator(separator), ..) = token(1)? else { return None };
            let (Token::Number(day), ..) = token(2)? else { return None };
            if !is_separator(separator) || day.len() > 2 {
                return None;
            }
            let ordinal = usize::from(matches!(token(3), Some((Token::Other, from, to)) if to - from <= 2));
            let (skip, year) = year_after(text, tokens, at + 3 + ordinal)?;
            done(full_year(year)?, *month, positive(day)?, 3 + ordinal + skip)
        }
        Token::Separator(_) | Token::Other => None,
    }
}

/// A separator and a year, perhaps with a "de" between, from token `at` on: how many tokens, and the year.
fn year_after<'a>(text: &str, tokens: &[(Token<'a>, usize, usize)], at: usize) -> Option<(usize, &'a str)> {
    let is_joint = |token: &(Token<'_>, usize, usize)| match &token.0 {
        Token::Separator(separator) => is_separator(separator),
        Token::Other => matches!(&text[token.1..token.2], "de" | "DE" | "of"),
        _ => false,
    };
    for skip in 0..4 {
        match tokens.get(at + skip)? {
            (Token::Number(year), ..) if matches!(year.len(), 2 | 4) => return Some((skip + 1, *year)),
            token if is_joint(token) => {}
            _ => return None,
        }
    }
    None
}

fn is_separator(text: &str) -> bool {
    text.len() <= 4
        && text.chars().all(|c| matches!(c, '.' | '/' | '-' | ' ' | ',' | '\'' | '’' | '–'))
        && text.trim().chars().count() <= 2
}

fn number(digits: &str) -> Option<i32> {
    digits.parse().ok()
}

fn positive(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|_| digits.len() <= 2)
}

fn full_year(digits: &str) -> Option<i32> {
    let year = number(digits)?;
    Some(match digits.len() {
        2 if year < 70 => 2000 + year,
        2 => 1900 + year,
        _ => year,
    })
}

fn date(year: i32, month: u32, day: u32, start: usize, end: usize) -> Option<Date> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    ((1900..=2199).contains(&year) && (1..=days).contains(&day)).then_some(Date { year, month, day, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        dates(text, false).iter().map(Date::value).collect()
    }

    #[test]
    fn dates_in_every_language() {
        for (text, value) in [
            ("12-01-19 21:13", "2019-01-12"),
            ("DATE : 31/03/2018", "2018-03-31"),
            ("04.12.2014 11:26", "2014-12-04"),
            ("5.09.15 19:20", "2015-09-05"),
            ("3. März 2024", "2024-03-03"),
            ("le 3 août 2023", "2023-08-03"),
            ("3 de marzo de 2024", "2024-03-03"),
            ("August 3, 2014", "2014-08-03"),
            ("Aug 03 , 2014", "2014-08-03"),
            ("March 3rd, 2014", "2014-03-03"),
            ("12MAR2018", "2018-03-12"),
            ("12-MAR-18", "2018-03-12"),
            ("2024-03-05", "2024-03-05"),
            ("20240305", "2024-03-05"),
            ("02/25/2020", "2020-02-25"),
            ("29. 2. 2024", "2024-02-29"),
            ("[19/01/17] [10:49]", "2017-01-19"),
            ("#19-18/03/2018 23:02", "2018-03-18"),
            ("27032018 No CS-20243", "2018-03-27"),
        ] {
            assert_eq!(found(text), [value], "{text}");
        }
        assert_eq!(dates("02/03/2020", true)[0].value(), "2020-02-03");
    }

    #[test]
    fn what_is_no_date() {
        for text in ["30.02.2024", "12/34", "1.2.3.4", "03-8060 4233", "1 2 2018", "99/99/9999", "10.50 12.30", "12.05"] {
            assert_eq!(found(text), [] as [&str; 0], "{text}");
        }
        assert!(found(&"1/".repeat(10_000)).is_empty());
    }

    #[test]
    fn raw_text_is_the_date_alone() {
        let date = dates("x 3. März 2024 y", false)[0];
        assert_eq!(&"x 3. März 2024 y"[date.bytes()], "3. März 2024");
    }
}
