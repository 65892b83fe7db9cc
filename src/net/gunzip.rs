//! gunzip, for text that is read whole.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use snafu::ResultExt;
use url::Url;

use super::error::{GunzipSnafu, TooLargeSnafu};
use super::{NetError, redacted};

/// Decompresses `compressed`, if the result has at most `limit` bytes.
pub(super) fn gunzip(compressed: &[u8], limit: usize, url: &Url) -> Result<Bytes, NetError> {
    let mut plain = Vec::new();
    // Stops one byte behind the limit, so that a small body cannot make the result large.
    let mut decoder = MultiGzDecoder::new(compressed).take(limit as u64 + 1);
    decoder
        .read_to_end(&mut plain)
        .with_context(|_| GunzipSnafu { url: redacted(url) })?;
    if plain.len() > limit {
        return TooLargeSnafu {
            url: redacted(url),
            limit,
        }
        .fail();
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder
            .write_all(plain)
            .and_then(|()| encoder.finish())
            .expect("a vector takes all")
    }

    fn url() -> Url {
        Url::parse("http://h/a.m3u8").expect("a url")
    }

    #[test]
    fn what_was_compressed_comes_back() {
        assert_eq!(gunzip(&gzip(b"#EXTM3U"), 7, &url()).expect("fits"), "#EXTM3U");
        assert_eq!(gunzip(&gzip(b""), 0, &url()).expect("fits"), "");
    }

    /// A megabyte of zeros is a kilobyte on the wire.
    #[test]
    fn a_bomb_is_too_large_before_it_goes_off() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(bomb.len() < 2048);
        let mut outcome = Ok(Bytes::new());
        let held = allocation_counter::measure(|| outcome = gunzip(&bomb, 4096, &url())).bytes_max;
        assert!(matches!(outcome, Err(NetError::TooLarge { limit: 4096, .. })));
        assert!(held < 256 * 1024, "{held}");
    }

    #[test]
    fn damage_is_an_error() {
        let good = gzip(b"some text that is long enough");
        for bad in [&good[..good.len() - 1], &good[..4], b"not gzip".as_slice(), b""] {
            assert!(
                matches!(gunzip(bad, 4096, &url()), Err(NetError::Gunzip { .. })),
                "{bad:?}"
            );
        }
    }
}
