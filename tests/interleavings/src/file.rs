//! In the place of the file: sixteen bytes that are zeros where nothing was written, as a sparse file's are.

use loom::sync::Mutex;

use super::verify::ReadFault;

pub(super) struct NamedFile(Mutex<[u8; 16]>);

impl NamedFile {
    pub(super) fn new() -> Self {
        Self(Mutex::new([0; 16]))
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the file it stands for")]
    pub(super) fn read_at(
        &self,
        offset: u64,
        buffer: &mut [u8],
        _seen_after_loss: bool,
    ) -> Result<usize, ReadFault> {
        let file = self.0.lock().unwrap();
        let from = &file[usize::try_from(offset).unwrap()..];
        let count = from.len().min(buffer.len());
        buffer[..count].copy_from_slice(&from[..count]);
        Ok(count)
    }

    pub(super) fn write_at(&self, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        self.0.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }
}
