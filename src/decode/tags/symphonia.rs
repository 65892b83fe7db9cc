//! Tags that Symphonia reads: `ID3v2`, Vorbis comments, FLAC's pictures.

use std::time::Duration;

use bytes::Bytes;
use symphonia::core::{
    io::{BufReader, MediaSourceStream, MediaSourceStreamOptions},
    meta::{
        ChapterGroup, ChapterGroupItem, MetadataBuilder, MetadataOptions, MetadataReader, MetadataRevision,
        MetadataSideData, StandardTag, StandardVisualKey, Tag, Visual,
    },
    units::Time,
};
use symphonia::default::meta::{Id3v2Reader, embedded};

use super::fields::{Chapter, Picture, Tags, set};

/// An `ID3v2` tag, header and all.
pub(crate) fn from_id3(tag: Bytes, tags: &mut Tags) {
    let source = Box::new(std::io::Cursor::new(tag));
    let stream = MediaSourceStream::new(source, MediaSourceStreamOptions::default());
    let read =
        Id3v2Reader::try_new(stream, MetadataOptions::default()).and_then(|mut reader| reader.read_all());
    match read {
        Ok(read) => {
            add_revision(&read.revision, tags);
            add_side_data(&read.side_data, tags);
        }
        // A track is no worse for tags that cannot be read.
        Err(error) => log::debug!("an ID3v2 tag is passed over: {error}"),
    }
}

/// The body of FLAC's block of Vorbis comments.
pub(crate) fn from_flac_comment(body: &[u8], tags: &mut Tags) {
    let mut builder = MetadataBuilder::new(embedded::flac::FLAC_METADATA_INFO);
    let mut side_data = Vec::new();
    let read = embedded::vorbis::read_vorbis_comment(&mut BufReader::new(body), &mut builder, &mut side_data);
    // What was read before the error is kept: texts stand one after another.
    if let Err(error) = read {
        log::debug!("Vorbis comments are passed over: {error}");
    }
    add_revision(&builder.build(), tags);
    add_side_data(&side_data, tags);
}

/// The body of FLAC's block of a picture.
pub(crate) fn from_flac_picture(body: &[u8], tags: &mut Tags) {
    if let Ok(visual) = embedded::flac::read_flac_picture_block(&mut BufReader::new(body)) {
        add_pictures(&[visual], tags);
    }
}

fn add_revision(revision: &MetadataRevision, tags: &mut Tags) {
    let containers = std::iter::once(&revision.media);
    for container in containers.chain(revision.per_track.iter().map(|track| &track.metadata)) {
        for tag in &container.tags {
            add_tag(tag, tags);
        }
        add_pictures(&container.visuals, tags);
    }
}

fn add_side_data(side_data: &[MetadataSideData], tags: &mut Tags) {
    for data in side_data {
        if let MetadataSideData::Chapters(chapters) = data {
            add_chapters(chapters, tags);
        }
    }
}

fn add_tag(tag: &Tag, tags: &mut Tags) {
    // ID3v2 has the name of a free field beside it.
    let described = tag
        .raw
        .sub_fields
        .iter()
        .flatten()
        .map(|field| field.value.to_string());
    // By its own name first: Symphonia has no standard tag for R128, and its ReplayGain is text either way.
    let value = tag.raw.value.to_string();
    for name in std::iter::once(tag.raw.key.clone()).chain(described) {
        if tags.add_named(&name, &value) {
            return;
        }
    }
    let Some(standard) = &tag.std else {
        return;
    };
    let text = |text: &std::sync::Arc<String>| {
        // Fields of a fixed length are filled up with zeros.
        Some(text.trim_end_matches('\0').to_owned()).filter(|text| !text.is_empty())
    };
    let whole = |number: &u64| u32::try_from(*number).ok();
    match standard {
        StandardTag::TrackTitle(value) => set(&mut tags.title, text(value)),
        StandardTag::Artist(value) => set(&mut tags.artist, text(value)),
        StandardTag::Album(value) => set(&mut tags.album, text(value)),
        StandardTag::AlbumArtist(value) => set(&mut tags.album_artist, text(value)),
        StandardTag::Composer(value) => set(&mut tags.composer, text(value)),
        StandardTag::Genre(value) => set(&mut tags.genre, text(value)),
        StandardTag::ReleaseDate(value) | StandardTag::RecordingDate(value) => {
            set(&mut tags.date, text(value));
        }
        StandardTag::ReleaseYear(year) | StandardTag::RecordingYear(year) => {
            set(&mut tags.date, Some(year.to_string()));
        }
        StandardTag::Comment(value) => set(&mut tags.comment, text(value)),
        StandardTag::TrackNumber(number) => set(&mut tags.track_number, whole(number)),
        StandardTag::TrackTotal(number) => set(&mut tags.track_total, whole(number)),
        StandardTag::DiscNumber(number) => set(&mut tags.disc_number, whole(number)),
        StandardTag::DiscTotal(number) => set(&mut tags.disc_total, whole(number)),
        _ => {}
    }
}

fn add_pictures(visuals: &[Visual], tags: &mut Tags) {
    // Others are of the band, the back, the disc.
    let front = visuals
        .iter()
        .find(|visual| visual.usage == Some(StandardVisualKey::FrontCover));
    let Some(visual) = front.or(visuals.first()) else {
        return;
    };
    // A front cover that comes later is the cover all the same.
    if tags.cover.is_none() || front.is_some() {
        tags.cover = Some(Picture {
            media_type: visual.media_type.clone(),
            data: Bytes::copy_from_slice(&visual.data),
        });
    }
}

fn add_chapters(group: &ChapterGroup, tags: &mut Tags) {
    for item in &group.items {
        match item {
            ChapterGroupItem::Group(group) => add_chapters(group, tags),
            ChapterGroupItem::Chapter(chapter) => {
                let title = chapter.tags.iter().find_map(|tag| match &tag.std {
                    Some(StandardTag::ChapterTitle(title) | StandardTag::TrackTitle(title)) => {
                        Some(title.to_string())
                    }
                    _ => None,
                });
                tags.chapters.push(Chapter {
                    start: duration(chapter.start_time),
                    end: chapter.end_time.map(duration),
                    title,
                });
            }
        }
    }
    // ID3v2 has them in any order, and nested.
    tags.chapters.sort_by_key(|chapter| chapter.start);
}

fn duration(time: Time) -> Duration {
    let (seconds, nanos) = time.parts();
    u64::try_from(seconds).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanos))
}
