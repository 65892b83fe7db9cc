//! Streaming AES-128-CBC with PKCS#7 padding (RFC 8216, 4.3.2.4).
//!
//! Plaintext is given out as ciphertext comes in, but for one block. The rule: **the last block is held back until it is
//! known to be the last**, because its padding is not plaintext (fault E6).

use std::fmt;

use aes::Aes128;
use bytes::{Bytes, BytesMut};
use cbc::cipher::{BlockModeDecrypt, KeyIvInit, array::Array};
use snafu::Snafu;

const BLOCK: usize = 16;

/// Why a resource does not decrypt. The plaintext given out before may be wrong too, if the key is the wrong one.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, Snafu)]
#[snafu(visibility(pub(crate)))]
pub enum CryptError {
    /// The ciphertext is empty, or its length is no multiple of 16 bytes. It was cut short, or is no ciphertext.
    #[snafu(display("{length} bytes of ciphertext are not a whole number of AES blocks"))]
    Length {
        /// How many bytes there are.
        length: u64,
    },
    /// The last block does not end in PKCS#7 padding (RFC 5652, 6.3). Key or IV are wrong, or it is no ciphertext.
    #[snafu(display("the padding does not fit: a wrong key or damaged ciphertext"))]
    Padding,
}

/// A key's 16 bytes. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key([u8; BLOCK]);

impl Key {
    /// `None` unless there are exactly 16 bytes (fault E5).
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Decrypts one resource, chunk by chunk.
///
/// No `Debug`: it is made of secrets.
pub(super) struct Decryptor {
    cipher: cbc::Decryptor<Aes128>,
    /// Ciphertext held back: 1 to 16 bytes once something came, because the last block must not go out early.
    held: Vec<u8>,
    /// Bytes of ciphertext so far.
    length: u64,
}

impl Decryptor {
    pub(super) fn new(key: &Key, iv: &[u8; BLOCK]) -> Self {
        let cipher = cbc::Decryptor::new(&Array(key.0), &Array(*iv));
        Self {
            cipher,
            held: Vec::with_capacity(BLOCK),
            length: 0,
        }
    }

    /// Takes in ciphertext and gives out the plaintext of all blocks but the last, which may be none. Decrypts in place if
    /// `chunk` has no other owner.
    pub(super) fn update(&mut self, chunk: Bytes) -> Bytes {
        self.length += chunk.len() as u64;
        let total = self.held.len() + chunk.len();
        let ready = total.saturating_sub(1) / BLOCK * BLOCK;
        if ready == 0 {
            self.held.extend_from_slice(&chunk);
            return Bytes::new();
        }
        // At most a block is held and at least a block goes out: all that was held goes out, and what is held next is the end
        // of this chunk.
        let (body, rest) = chunk.split_at(chunk.len() - (total - ready));
        let held = std::mem::replace(&mut self.held, rest.to_vec());
        let body = body.len();
        // The held bytes come in front, so the chunk's own move back by as many. The cache holds the chunk as well until it is
        // written, and must get ciphertext: a shared chunk is copied, never changed.
        let mut out = match chunk.try_into_mut() {
            Ok(mut buffer) => {
                buffer.resize(ready, 0);
                buffer.copy_within(..body, ready - body);
                buffer
            }
            Err(shared) => {
                let mut buffer = BytesMut::zeroed(ready);
                buffer
                    .split_at_mut(ready - body)
                    .1
                    .copy_from_slice(shared.split_at(body).0);
                buffer
            }
        };
        out.split_at_mut(held.len()).0.copy_from_slice(&held);
        let (blocks, _) = Array::slice_as_chunks_mut(&mut out);
        self.cipher.decrypt_blocks(blocks);
        out.freeze()
    }

    /// The end of the plaintext: the last block without its padding. It may be empty.
    ///
    /// # Errors
    ///
    /// [`CryptError::Length`] and [`CryptError::Padding`].
    pub(super) fn finish(mut self) -> Result<Bytes, CryptError> {
        let Ok(mut block) = <[u8; BLOCK]>::try_from(self.held.as_slice()) else {
            return LengthSnafu { length: self.length }.fail();
        };
        self.cipher.decrypt_block((&mut block).into());
        plaintext(&block).map(Bytes::copy_from_slice)
    }
}

/// The length in bytes of the plaintext of a ciphertext's last two blocks. `None` if they are not the last two.
pub(super) fn last_blocks_len(key: &Key, blocks: &[u8]) -> Option<u64> {
    // In CBC the block before is a block's IV, so the end decrypts without the beginning.
    let (previous, last) = blocks.split_first_chunk()?;
    let mut decryptor = Decryptor::new(key, previous);
    let out = decryptor.update(Bytes::copy_from_slice(last));
    let tail = decryptor.finish().ok().filter(|_| out.is_empty())?;
    Some((BLOCK + tail.len()) as u64)
}

/// A last block without its PKCS#7 padding (RFC 5652, 6.3).
fn plaintext(block: &[u8; BLOCK]) -> Result<&[u8], CryptError> {
    let [.., last] = *block;
    // The last byte says how many bytes of padding there are, 1 to 16; each of them has that value.
    let Some(length) = BLOCK.checked_sub(last.into()).filter(|_| last > 0) else {
        return PaddingSnafu.fail();
    };
    let (plain, padding) = block.split_at(length);
    if padding.iter().all(|byte| *byte == last) {
        Ok(plain)
    } else {
        PaddingSnafu.fail()
    }
}

#[cfg(test)]
mod tests {
    use cbc::cipher::BlockModeEncrypt;
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 16] = *b"yellow submarine";

    fn encrypt(plain: &[u8], iv: u128) -> Vec<u8> {
        let mut cipher = cbc::Encryptor::<Aes128>::new(&Array(KEY), &Array(iv.to_be_bytes()));
        let padding = u8::try_from(16 - plain.len() % 16).unwrap();
        let mut buffer = [plain, &vec![padding; padding.into()]].concat();
        cipher.encrypt_blocks(Array::slice_as_chunks_mut(&mut buffer).0);
        buffer
    }

    fn decrypt(chunks: &[Bytes], iv: u128) -> Result<Vec<u8>, CryptError> {
        let mut decryptor = Decryptor::new(&Key::new(&KEY).unwrap(), &iv.to_be_bytes());
        let mut plain = Vec::new();
        for chunk in chunks {
            plain.extend_from_slice(&decryptor.update(chunk.clone()));
            // The promise: never more than one block behind, never the last block.
            let ciphertext = usize::try_from(decryptor.length).unwrap();
            assert_eq!(plain.len(), ciphertext.saturating_sub(1) / 16 * 16);
        }
        plain.extend_from_slice(&decryptor.finish()?);
        Ok(plain)
    }

    /// NIST SP 800-38A, F.2.2: the first block of CBC-AES128, which a library of ours did not encrypt.
    #[test]
    fn a_published_vector_decrypts() {
        let hex = |text: &str| u128::from_str_radix(text, 16).unwrap().to_be_bytes();
        let key = Key::new(&hex("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
        let mut decryptor = Decryptor::new(&key, &hex("000102030405060708090a0b0c0d0e0f"));
        let blocks = [
            hex("7649abac8119b246cee98e9b12e9197d"),
            hex("5086cb9b507219ee95db113a917678b2"),
        ]
        .concat();
        assert_eq!(
            decryptor.update(blocks.into())[..],
            hex("6bc1bee22e409f96e93d7e117393172a")
        );
    }

    /// E6: the padding goes, all of it and nothing else.
    #[test]
    fn the_padding_is_cut_exactly() {
        for length in 0..=48 {
            let plain: Vec<u8> = (1..=length).collect();
            assert_eq!(decrypt(&[encrypt(&plain, 7).into()], 7).unwrap(), plain);
        }
    }

    /// E5, H4: what is not a whole number of blocks.
    #[test]
    fn a_length_that_is_no_multiple_of_16_is_refused() {
        let whole = encrypt(&[1; 100], 7);
        for cut in [0, 1, 15, 17, 111] {
            let result = decrypt(&[Bytes::copy_from_slice(&whole[..cut])], 7);
            assert_eq!(result, Err(CryptError::Length { length: cut as u64 }));
        }
    }

    #[test]
    fn padding_that_does_not_fit_is_refused() {
        let mut block = [4; 16];
        assert_eq!(plaintext(&block).unwrap(), [4; 12]);
        block[12] = 3;
        assert_eq!(plaintext(&block), Err(CryptError::Padding));
        for last in [0, 17, 255] {
            block[15] = last;
            assert_eq!(plaintext(&block), Err(CryptError::Padding));
        }
        assert!(plaintext(&[16; 16]).unwrap().is_empty());
        // Cut at a block's end: the length fits, the padding does not.
        let cut = encrypt(&[0; 64], 7);
        assert_eq!(
            decrypt(&[Bytes::copy_from_slice(&cut[..48])], 7),
            Err(CryptError::Padding)
        );
    }

    #[test]
    fn the_last_two_blocks_tell_the_length() {
        let key = Key::new(&KEY).unwrap();
        for length in 16..80_usize {
            let whole = encrypt(&vec![0; length], 7);
            let from = whole.len() - 32;
            assert_eq!(
                last_blocks_len(&key, &whole[from..]),
                Some((length - from) as u64)
            );
        }
        let longer = encrypt(&[0; 80], 7);
        assert_eq!(last_blocks_len(&key, &longer[..32]), None);
        assert_eq!(last_blocks_len(&key, &longer[48..]), None);
        assert_eq!(last_blocks_len(&key, &longer[80..]), None);
    }

    /// E5.
    #[test]
    fn a_key_is_16_bytes() {
        for length in [0, 15, 17, 24, 32] {
            assert_eq!(Key::new(&vec![0; length]), None);
        }
        assert!(!format!("{:?}", Key::new(&KEY)).contains("121"));
    }

    #[test]
    fn a_unique_aligned_chunk_is_decrypted_in_place() {
        let mut decryptor = Decryptor::new(&Key::new(&KEY).unwrap(), &[0; 16]);
        decryptor.update(Bytes::from(vec![1; 16]));
        let chunk = Bytes::from(vec![2; 4096]);
        let address = chunk.as_ptr();
        let out = decryptor.update(chunk);
        assert_eq!((out.as_ptr(), out.len()), (address, 4096));
        let chunk = Bytes::from(vec![2; 4096]);
        let held_elsewhere = chunk.clone();
        decryptor.update(chunk);
        assert_eq!(held_elsewhere[..], [2; 4096]);
    }

    proptest! {
        /// E6: for all chunk boundaries, and for chunks with other owners.
        #[test]
        fn chunked_decryption_equals_whole_buffer_decryption(
            plain in prop::collection::vec(any::<u8>(), 0..600),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12),
            iv in any::<u128>(),
        ) {
            let ciphertext = encrypt(&plain, iv);
            let mut at: Vec<usize> = cuts.iter().map(|(index, _)| index.index(ciphertext.len() + 1)).collect();
            at.extend([0, ciphertext.len()]);
            at.sort_unstable();
            let shared: Vec<bool> = cuts.iter().map(|(_, shared)| *shared).chain([true]).collect();
            let mut kept = Vec::new();
            let mut decryptor = Decryptor::new(&Key::new(&KEY).unwrap(), &iv.to_be_bytes());
            let mut out = Vec::new();
            for (pair, shared) in at.windows(2).zip(shared) {
                let chunk = Bytes::copy_from_slice(&ciphertext[pair[0]..pair[1]]);
                if shared {
                    kept.push((chunk.clone(), pair[0]));
                }
                out.extend_from_slice(&decryptor.update(chunk));
            }
            out.extend_from_slice(&decryptor.finish().unwrap());
            prop_assert_eq!(out, plain);
            // What others hold is still ciphertext: the cache writes it.
            for (chunk, from) in kept {
                prop_assert_eq!(&chunk[..], &ciphertext[from..from + chunk.len()]);
            }
        }
    }
}
