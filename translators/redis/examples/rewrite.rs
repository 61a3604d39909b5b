//! Rewrites an RDB file and tells how fast:
//! `cargo run --release -p segue-redis --example rewrite -- IN OUT redis-6.0 [refuse|degrade]`

use std::{
    error::Error,
    fs::File,
    io::{Read, Write},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use segue_redis::{
    rdb::{Progress, Rewriter},
    releases::rdb_target,
};
use segue_wire::{Limits, LossPolicy};

const READ_BYTES: usize = 256 << 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (input, output, release) = match args.as_slice() {
        [input, output, release, ..] => (input, output, release),
        _ => return Err("usage: rewrite IN OUT RELEASE [refuse|degrade]".into()),
    };
    let policy = if args.get(3).is_some_and(|word| word == "degrade") {
        LossPolicy::Degrade
    } else {
        LossPolicy::Refuse
    };
    let target = rdb_target(&release.parse()?).ok_or("no such target")?;
    let mut rewriter = Rewriter::new(target, policy, Limits::default());
    let (mut file, mut result) = (File::open(input)?, File::create(output)?);
    let (mut buffer, mut out, mut losses) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let (mut piece, mut spent) = (vec![0; READ_BYTES], Duration::ZERO);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            rewriter.finish()?;
        }
        buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        let start = Instant::now();
        let progress = rewriter.feed(&mut buffer, &mut out, &mut losses)?;
        spent += start.elapsed();
        result.write_all(&out)?;
        out.clear();
        for loss in losses.drain(..) {
            println!("lost ({}): {loss}", loss.grade.label());
        }
        if progress == Progress::Done {
            break;
        }
    }
    let speed = rewriter.position() as f64 / spent.as_secs_f64() / 1e9;
    println!("{} bytes to {} bytes, {speed:.2} GB/s", rewriter.position(), rewriter.emitted());
    Ok(())
}
