//! The releases by name, and what was measured of each.

use std::sync::LazyLock;

use segue_wire::Release;

use super::line::{FORKED, Level, Line};
use crate::rdb::Headers;

/// One minor release.
pub struct Known {
    level: Level,
    /// `None`: it could not be measured. It is taken for the next newer one of its line where it sends,
    /// for the next older one where it receives.
    headers: Option<Headers>,
    /// Did patch releases change the wire?
    pub patches_differ: bool,
}

/// From the oldest to the newest of each line.
const KNOWN: &[Known] = &[
    known(Line::Redis, 5, 0, Some(Headers::redis(9))),
    known(Line::Redis, 6, 0, Some(Headers::redis(9))),
    // From 6.2.6 on, a search that is stored deletes the destination if its source is missing.
    Known { patches_differ: true, ..known(Line::Redis, 6, 2, Some(Headers::redis(9))) },
    known(Line::Redis, 7, 0, Some(Headers::redis(10))),
    known(Line::Redis, 7, 2, Some(Headers::redis(11))),
    known(Line::Redis, 7, 4, Some(Headers::redis(12))),
    // 8.0.6 sends HSETEX for HINCRBYFLOAT, and its vector sets kill 8.0.2.
    Known { patches_differ: true, ..known(Line::Redis, 8, 0, Some(Headers::redis(12))) },
    known(Line::Redis, 8, 2, Some(Headers::redis(12))),
    known(Line::Redis, 8, 4, None),
    known(Line::Redis, 8, 6, Some(Headers::redis(13))),
    known(Line::Redis, 8, 8, None),
    known(Line::Redis, 8, 10, Some(Headers::redis(15))),
    known(Line::Redict, 7, 3, Some(Headers::redis(12))),
    known(Line::Valkey, 7, 2, None),
    known(Line::Valkey, 8, 0, Some(Headers::redis(11))),
    known(Line::Valkey, 8, 1, Some(Headers::redis(11))),
    known(Line::Valkey, 9, 0, Some(Headers::valkey(11, 80))),
    known(Line::Valkey, 9, 1, Some(Headers::valkey(11, 80))),
];

const fn known(line: Line, major: u16, minor: u16, headers: Option<Headers>) -> Known {
    Known { level: Level { line, major, minor, patch: 0 }, headers, patches_differ: false }
}

/// Every release known by name.
pub static RELEASES: LazyLock<Vec<Release>> = LazyLock::new(|| {
    let name = |Level { line, major, minor, .. }| Release::new(line.store(), major, minor, None);
    KNOWN.iter().map(|known| name(known.level)).collect()
});

/// What a release is taken for.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    pub level: Level,
    pub headers: Headers,
}

/// A release as the one that sends: the highest that its name can mean.
pub fn sender(release: &Release) -> Option<Measured> {
    let known = find(release)?;
    let newer = |other: &&Known| other.level.descends_from(known.level) && other.headers.is_some();
    let measured = KNOWN.iter().filter(|other| other.level.line == known.level.line).find(newer)?;
    measured.read_as(release, u16::MAX)
}

/// A release as the one that receives: the lowest that its name can mean.
pub fn receiver(release: &Release) -> Option<Measured> {
    let known = find(release)?;
    let older = |other: &&Known| known.level.descends_from(other.level) && other.headers.is_some();
    let own_line = |other: &&Known| other.level.line == known.level.line;
    let measured = KNOWN.iter().rev().filter(own_line).find(older).or_else(|| {
        KNOWN.iter().find(|other| other.level.line == Line::Redis && other.level.number() == FORKED)
    })?;
    measured.read_as(release, 0)
}

/// The lowest level of its own that a release can have.
pub fn level(release: &Release) -> Option<Level> {
    Some(find(release)?.level_of(release, 0))
}

pub fn find(release: &Release) -> Option<&'static Known> {
    let named = |known: &&Known| {
        known.level.line.store() == release.store()
            && (known.level.major, known.level.minor) == (release.major(), release.minor())
    };
    KNOWN.iter().find(named)
}

impl Known {
    fn read_as(&self, release: &Release, any_patch: u16) -> Option<Measured> {
        Some(Measured { level: self.level_of(release, any_patch), headers: self.headers? })
    }

    /// `any_patch` stands for a patch that the name leaves open.
    fn level_of(&self, release: &Release, any_patch: u16) -> Level {
        let patch = if self.patches_differ { release.patch().unwrap_or(any_patch) } else { 0 };
        Level { patch, ..self.level }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_can_send_and_receive() {
        for release in &*RELEASES {
            let (sent, received) = (sender(release).unwrap(), receiver(release).unwrap());
            assert!(sent.level.descends_from(level(release).unwrap()), "{release}");
            assert!(level(release).unwrap().descends_from(received.level), "{release}");
        }
    }

    #[test]
    fn what_was_not_measured_lies_between_its_neighbours() {
        let number = |of: Option<Measured>| of.map(|of| (of.level.line, of.level.major, of.level.minor));
        let release: Release = "redis-8.4".parse().unwrap();
        assert_eq!(number(sender(&release)), Some((Line::Redis, 8, 6)));
        assert_eq!(number(receiver(&release)), Some((Line::Redis, 8, 2)));
        let release: Release = "valkey-7.2".parse().unwrap();
        assert_eq!(number(sender(&release)), Some((Line::Valkey, 8, 0)));
        assert_eq!(number(receiver(&release)), Some((Line::Redis, 7, 2)));
    }
}
