//! Where settings come from: the file's text and the environment, merged into one table in which
//! every value remembers its place, so that a complaint can name the file, the line and the key.
//!
//! The environment's overrides are parsed as a second TOML document that is padded by the first
//! one's length: offsets then tell the two apart, and both keep their places through one
//! deserialisation.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a configuration is refused. All of it is for a person to correct.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no configuration file {0}: write one, or name one with --config FILE")]
    Missing(String),
    #[error("the configuration file {path} cannot be read: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{place}: {detail}")]
    Syntax { place: String, detail: String },
    #[error("{place}: there is no setting \"{key}\"; the nearest name is \"{nearest}\"")]
    Unknown { place: String, key: String, nearest: String },
    #[error("{place}: {key}: {detail}")]
    Value { place: String, key: String, detail: String },
}

/// What a known key holds; decides how an environment variable's text is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Number,
    Flag,
    /// Of texts; in a variable with commas between.
    List,
}

/// Every known key by its dotted path, `http.listen`, and the sections that hold them.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// What it holds, and a good value as TOML.
    pub keys: BTreeMap<String, (Kind, String)>,
    sections: Vec<String>,
}

impl Known {
    /// Reads the names off a configuration in which every key is present.
    #[must_use]
    pub fn of(specimen: &toml::Table) -> Self {
        let mut known = Known::default();
        known.add("", specimen);
        known
    }

    fn add(&mut self, section: &str, table: &toml::Table) {
        self.sections.push(section.to_owned());
        for (name, value) in table {
            let path = join(section, name);
            let kind = match value {
                toml::Value::Table(inner) => {
                    self.add(&path, inner);
                    continue;
                }
                toml::Value::Boolean(_) => Kind::Flag,
                toml::Value::Integer(_) | toml::Value::Float(_) => Kind::Number,
                toml::Value::Array(_) => Kind::List,
                _ => Kind::Text,
            };
            self.keys.insert(path, (kind, value.to_string()));
        }
    }

    fn is_section(&self, path: &str) -> bool {
        self.sections.iter().any(|section| section == path)
    }

    /// The known name that `path` was most likely meant to be: of its own section, unless its very
    /// name exists in another one.
    fn nearest(&self, path: &str) -> String {
        let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
        let all = || self.keys.keys().map(String::as_str).chain(self.sections.iter().skip(1).map(String::as_str));
        let siblings = all().filter(|known| known.rsplit_once('.').map_or("", |(parent, _)| parent) == section);
        let distance = |known: &str| strsim::damerau_levenshtein(last(known), name);
        let near = siblings.min_by_key(|known| distance(known));
        let namesake = all().find(|known| last(known) == name);
        match (near, namesake) {
            (Some(near), Some(_)) if distance(near) <= 2 => near.to_owned(),
            (_, Some(namesake)) => namesake.to_owned(),
            (Some(near), None) => near.to_owned(),
            (None, None) => all().min_by_key(|known| strsim::damerau_levenshtein(known, path)).unwrap_or_default().to_owned(),
        }
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn join(section: &str, name: &str) -> String {
    if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") }
}

/// `http.listen` is `INKPORT_HTTP__LISTEN`.
#[must_use]
pub fn variable(path: &str) -> String {
    format!("INKPORT_{}", path.replace('.', "__").replace('-', "_").to_ascii_uppercase())
}

/// One file's text and the environment's overrides.
pub struct Source<'a> {
    file: &'a Path,
    text: &'a str,
    /// The overrides as a TOML document, padded by the text's length.
    overrides: String,
    /// The variable that each line of the overrides came from.
    variables: Vec<String>,
}

impl<'a> Source<'a> {
    /// `environment` is every variable of the process; foreign ones are passed over.
    pub fn new(file: &'a Path, text: &'a str, environment: &[(String, String)], known: &Known) -> Result<Self, ConfigError> {
        let by_variable: BTreeMap<String, (&str, Kind)> =
            known.keys.iter().map(|(path, (kind, _))| (variable(path), (path.as_str(), *kind))).collect();
        let mut source = Source { file, text, overrides: format!("{}\n", " ".repeat(text.len())), variables: Vec::new() };
        for (name, value) in environment {
            match by_variable.get(name) {
                Some((path, kind)) => {
                    let place = format!("the environment variable {name}");
                    let value =
                        literal(value, *kind).map_err(|detail| ConfigError::Value { place, key: (*path).to_owned(), detail })?;
                    source.overrides.push_str(&format!("{path} = {value}\n"));
                    source.variables.push(name.clone());
                }
                // Without the double underscore it may be anybody's: INKPORT_HOME in a wrapper script.
                None if name.starts_with("INKPORT_") && name.contains("__") => {
                    let nearest = by_variable.keys().min_by_key(|known| strsim::damerau_levenshtein(known, name));
                    return Err(ConfigError::Unknown {
                        place: "the environment".to_owned(),
                        key: name.clone(),
                        nearest: nearest.cloned().unwrap_or_default(),
                    });
                }
                None => {}
            }
        }
        Ok(source)
    }

    /// The merged table; unknown keys are refused.
    pub fn table(&self, known: &Known) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            place: self.place(error.span()),
            detail: error.message().trim().replace('\n', ", "),
        };
        let mut table = DeTable::parse(self.text).map_err(syntax)?;
        self.refuse_unknown(table.get_ref(), "", known)?;
        let overrides = DeTable::parse(&self.overrides).map_err(syntax)?;
        merge(table.get_mut(), overrides.into_inner());
        Ok(table)
    }

    fn refuse_unknown(&self, table: &DeTable<'_>, section: &str, known: &Known) -> Result<(), ConfigError> {
        for (key, value) in table {
            let path = join(section, key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if known.is_section(&path) => self.refuse_unknown(inner, &path, known)?,
                // A value where a section belongs is for the deserialiser to refuse.
                _ if known.keys.contains_key(&path) || known.is_section(&path) => {}
                _ => {
                    let place = self.place(Some(key.span()));
                    return Err(ConfigError::Unknown { place, nearest: known.nearest(&path), key: path });
                }
            }
        }
        Ok(())
    }

    /// What the deserialiser refused, told with the key it belongs to.
    pub fn refused(&self, error: &toml::de::Error, places: &Places, known: &Known) -> ConfigError {
        let key = error.span().map(|span| places.key_at(&span)).unwrap_or_default();
        let mut detail = error.message().trim().replace('\n', ", ");
        // serde names the Rust type, which tells nobody anything.
        if let Some(at) = detail.find("expected struct ") {
            detail.replace_range(at.., "expected a section");
        }
        if let Some((_, example)) = known.keys.get(&key) {
            detail.push_str(&format!(" (for example: {example})"));
        }
        let place = self.place(error.span());
        if key.is_empty() { ConfigError::Syntax { place, detail } } else { ConfigError::Value { place, key, detail } }
    }

    /// A value that is well formed but not allowed.
    pub fn not_allowed(&self, key: &str, detail: String, places: &Places) -> ConfigError {
        ConfigError::Value { place: self.place(places.span_of(key)), key: key.to_owned(), detail }
    }

    fn place(&self, span: Option<Range<usize>>) -> String {
        let file = self.file.display();
        match span {
            Some(span) if span.start > self.text.len() => {
                let line = self.overrides[..span.start.min(self.overrides.len())].matches('\n').count();
                let name = self.variables.get(line.saturating_sub(1)).map_or("", String::as_str);
                format!("the environment variable {name}")
            }
            Some(span) => {
                let before = self.text.as_bytes().iter().take(span.start);
                format!("{file}, line {}", before.filter(|byte| **byte == b'\n').count() + 1)
            }
            None => file.to_string(),
        }
    }
}

/// Where each key's value stands: spans by dotted path, sections before what they hold.
pub struct Places(Vec<(String, Range<usize>)>);

impl Places {
    #[must_use]
    pub fn of(table: &Spanned<DeTable<'_>>) -> Self {
        let mut places = Vec::new();
        collect("", table.get_ref(), &mut places);
        Places(places)
    }

    /// The innermost key whose value holds `span`.
    fn key_at(&self, span: &Range<usize>) -> String {
        let holds = |place: &Range<usize>| place.start <= span.start && span.end <= place.end;
        self.0
            .iter()
            .filter(|(_, place)| holds(place))
            .min_by_key(|(_, place)| place.len())
            .map_or_else(String::new, |(key, _)| key.clone())
    }

    fn span_of(&self, key: &str) -> Option<Range<usize>> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, span)| span.clone())
    }
}

fn collect(section: &str, table: &DeTable<'_>, places: &mut Vec<(String, Range<usize>)>) {
    for (key, value) in table {
        let path = join(section, key.get_ref());
        places.push((path.clone(), value.span()));
        if let DeValue::Table(inner) = value.get_ref() {
            collect(&path, inner, places);
        }
    }
}

fn merge<'i>(into: &mut DeTable<'i>, from: DeTable<'i>) {
    for (key, value) in from {
        let span = value.span();
        match (into.get_mut(&key).map(Spanned::get_mut), value.into_inner()) {
            (Some(DeValue::Table(old)), DeValue::Table(new)) => merge(old, new),
            (_, value) => {
                // Removed first: insert would keep the old key, whose span is the file's.
                into.remove(&key);
                into.insert(key, Spanned::new(span, value));
            }
        }
    }
}

/// An environment variable's text as TOML.
fn literal(value: &str, kind: Kind) -> Result<String, String> {
    match kind {
        Kind::Flag => match value {
            "true" | "false" => Ok(value.to_owned()),
            _ => Err(format!("\"{value}\" is not true or false")),
        },
        Kind::Number => {
            let digits = value.replace('_', "");
            digits.parse::<i64>().map(|number| number.to_string()).map_err(|_| format!("\"{value}\" is not a number"))
        }
        Kind::Text | Kind::List if value.chars().any(char::is_control) => Err("holds a control character".to_owned()),
        Kind::Text => Ok(toml::Value::String(value.to_owned()).to_string()),
        Kind::List => {
            // As in the file, too.
            let bare = value.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(value);
            let items = bare.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty());
            Ok(toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect()).to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known::of(
            &toml::from_str("top = 1\n[http]\nlisten = ''\nstatus = ''\n[ftp]\nidle = ''\n[ftp.tls]\nrequire = ''\n").unwrap(),
        )
    }

    #[test]
    fn the_nearest_name_is_of_the_same_section_or_a_namesake() {
        let known = known();
        for (typed, meant) in [
            ("http.listn", "http.listen"),
            ("ftp.listen", "http.listen"),
            ("tpo", "top"),
            ("htpp", "http"),
            ("ftp.tsl", "ftp.tls"),
            ("ftp.tls.requre", "ftp.tls.require"),
        ] {
            assert_eq!(known.nearest(typed), meant, "{typed}");
        }
    }

    #[test]
    fn variables_are_the_dotted_path_in_capitals() {
        assert_eq!(variable("ftp.tls.private-key"), "INKPORT_FTP__TLS__PRIVATE_KEY");
        assert_eq!(variable("data-dir"), "INKPORT_DATA_DIR");
    }

    #[test]
    fn hostile_variables_cannot_add_settings() {
        assert!(literal("x\"\nrequire = \"no", Kind::Text).is_err());
        assert_eq!(
            literal(r#"a"b\"#, Kind::Text).map(|text| format!("x = {text}").parse::<toml::Table>().unwrap()["x"].clone()),
            Ok(toml::Value::String(r#"a"b\"#.into()))
        );
        assert!(literal("1; x", Kind::Number).is_err());
        assert_eq!(literal("a, \"b\"", Kind::List), literal("[a,b]", Kind::List));
        assert_eq!(literal("", Kind::List), Ok("[]".to_owned()));
    }
}
