use bytes::BytesMut;
use segue_wire::{FaultKind, Limits, Loss, LossPolicy, Release};

use super::{Ending, Manifest, Rewriter};

const LIMITS: Limits = Limits { held_bytes_max: 4 << 10, handshake_bytes_max: 512, offset_marks_max: 8 };

/// Entry for a fuzzer: `data` is read as a manifest and as the files of an AOF, parted where its first byte
/// stands again, for old releases and both policies. What comes out must be the same however it is cut, and
/// what is kept of it must be whole.
///
/// # Panics
///
/// Where that does not hold.
pub fn fuzz(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        let text = manifest.text();
        assert!(text.is_empty() || Manifest::parse(text.as_bytes()).is_ok(), "{text}");
    }
    let Some((&border, data)) = data.split_first() else { return };
    let files: Vec<_> = data.split(|byte| *byte == border).collect();
    for (major, minor) in [(5, 0), (6, 2), (7, 0)] {
        let to = Release::new("redis", major, minor, None);
        for policy in [LossPolicy::Refuse, LossPolicy::Degrade] {
            let whole = in_pieces(&files, usize::MAX, &to, policy);
            assert_eq!(in_pieces(&files, 1 + usize::from(border), &to, policy), whole);
            let Ok((out, _)) = whole else { continue };
            let kept: Vec<&[u8]> = out.iter().map(|file| &**file).collect();
            assert!(in_pieces(&kept, usize::MAX, &to, policy).is_ok(), "{kept:?}");
        }
    }
}

type Converted = (Vec<BytesMut>, Vec<Loss>);

/// What each file gives, up to where it is kept.
fn in_pieces(files: &[&[u8]], cut: usize, to: &Release, policy: LossPolicy) -> Result<Converted, FaultKind> {
    let from = Release::new("redis", 8, 0, None);
    let Some(mut rewriter) = Rewriter::new(&from, to, policy, LIMITS) else { unreachable!("both are known") };
    let (mut outs, mut losses) = (Vec::new(), Vec::new());
    for file in files {
        let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
        for piece in file.chunks(cut) {
            input.extend_from_slice(piece);
            rewriter.feed(&mut input, &mut out, &mut losses)?;
            assert!(input.len() <= LIMITS.held_bytes_max, "{} bytes stay", input.len());
        }
        if let Ending::CutOff(kept) = rewriter.end_file(&input)? {
            assert!(kept.read_bytes <= file.len() as u64, "{kept:?}");
            let kept = usize::try_from(kept.written_bytes).unwrap_or(usize::MAX);
            assert!(kept <= out.len(), "{kept} of {} bytes", out.len());
            out.truncate(kept);
        }
        outs.push(out);
    }
    Ok((outs, losses))
}
