//! EXT-X-KEY: which key is in force where (RFC 8216, 4.3.2.4).

use std::sync::Arc;

use super::{
    error::{PlaylistError, UnsupportedEncryptionSnafu},
    lines::Attributes,
    number,
    reference::{Locator, References},
    variables::Variables,
};

/// How a Media Segment or a Media Initialization Section is encrypted: AES-128, the whole resource, CBC with PKCS#7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Encryption {
    /// Where the key is. Shared: a key holds for many segments, and may stand in its URI.
    pub(crate) key: Arc<Locator>,
    /// The initialisation vector, given or made from the Media Sequence Number.
    pub(crate) iv: [u8; 16],
}

/// A key in force: where it is, and its IV if the playlist gives one.
pub(super) struct KeyInForce {
    pub(super) locator: Arc<Locator>,
    pub(super) iv: Option<[u8; 16]>,
}

/// One EXT-X-KEY in force.
#[derive(Clone)]
struct KeyTag {
    line: usize,
    method: String,
    format: String,
    locator: Option<Arc<Locator>>,
    iv: Option<[u8; 16]>,
}

/// The keys in force at a line: at most one per KEYFORMAT.
#[derive(Default)]
pub(super) struct KeysInForce(Vec<KeyTag>);

const TAG: &str = "EXT-X-KEY";
/// The KEYFORMAT of a key that is 16 bytes at its URI, and the default.
const IDENTITY: &str = "identity";

impl KeysInForce {
    /// Takes in one EXT-X-KEY: it ends the one of the same KEYFORMAT; METHOD=NONE ends them all.
    pub(super) fn apply(
        &mut self,
        line: usize,
        value: &str,
        variables: &Variables,
        references: &References<'_>,
    ) -> Result<(), PlaylistError> {
        let attributes = Attributes::parse(line, TAG, value);
        let Some(method) = attributes.enumerated("METHOD")? else {
            return attributes.malformed("METHOD is missing");
        };
        // Ends the keys of all formats. A KEYFORMAT beside it means nothing.
        if method == "NONE" {
            self.0.clear();
            return Ok(());
        }
        let format = attributes
            .quoted("KEYFORMAT", variables)?
            .map_or_else(|| IDENTITY.to_owned(), Into::into);
        // A URI of another key system (`skd://…`) need not be a URL, so it is not resolved.
        let locator = match attributes.quoted("URI", variables)? {
            Some(uri) if format == IDENTITY => Some(Arc::new(references.resolve(line, TAG, &uri)?)),
            _ => None,
        };
        let iv = match attributes.enumerated("IV")? {
            None => None,
            Some(text) => match number::initialisation_vector(&variables.substitute(line, text)?) {
                None => return attributes.malformed("IV is not 128 bits in hexadecimal"),
                some => some,
            },
        };
        if method == "AES-128" && format == IDENTITY && locator.is_none() {
            return attributes.malformed("URI is missing");
        }
        // Keys of other formats stay in force: they are ways to one and the same key.
        self.0.retain(|key| key.format != format);
        self.0.push(KeyTag {
            line,
            method: method.to_owned(),
            format,
            locator,
            iv,
        });
        Ok(())
    }

    /// The key that decrypts what stands at this line; `None` for plain text.
    ///
    /// Several keys in force lead to one and the same key, so one that this crate can read is enough.
    pub(super) fn current(&self) -> Result<Option<KeyInForce>, PlaylistError> {
        let readable = |key: &KeyTag| (key.method == "AES-128").then(|| key.locator.clone()).flatten();
        if let Some(key) = self.0.iter().find_map(|key| {
            Some(KeyInForce {
                locator: readable(key)?,
                iv: key.iv,
            })
        }) {
            return Ok(Some(key));
        }
        // Refused where it is used, not where it is named: a key that is replaced before the first segment does no harm.
        match self.0.first() {
            None => Ok(None),
            Some(KeyTag {
                line, method, format, ..
            }) => UnsupportedEncryptionSnafu {
                line: *line,
                method,
                key_format: format,
            }
            .fail(),
        }
    }
}
