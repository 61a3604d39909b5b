//! Values of the types that only Redis has: vector sets (8.0) and arrays (8.8). Gives the first difference in
//! words.

use std::collections::BTreeSet;

use anyhow::Result;
use redis::cmd;

use super::difference::show;
use super::pair::{Pair, parse};

/// Elements asked for at a time.
const ELEMENTS_PER_CHUNK: usize = 256;
/// Components that differ by less are equal: releases compute them in other ways.
const COMPONENT_TOLERANCE: f64 = 1e-4;

/// There is no cursor over a vector set: the names of its elements are held all at once.
pub fn vector_sets(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("VCARD").arg(key))?;
    let (first_width, second_width): (usize, usize) = pair.both_one(cmd("VDIM").arg(key))?;
    if (first, first_width) != (second, second_width) {
        let (first, second) = (format!("{first} of {first_width}"), format!("{second} of {second_width}"));
        return Ok(Some(format!("vector set with {first} against {second} components")));
    }
    // A positive count gives distinct elements.
    let (names, others): (BTreeSet<Vec<u8>>, BTreeSet<Vec<u8>>) =
        pair.both_one(cmd("VRANDMEMBER").arg(key).arg(first))?;
    if let Some(name) = names.symmetric_difference(&others).next() {
        return Ok(Some(format!("vector {} only in one store", show(name))));
    }
    let names: Vec<_> = names.into_iter().collect();
    for chunk in names.chunks(ELEMENTS_PER_CHUNK) {
        let ask = |command: &str| -> Vec<_> {
            chunk.iter().map(|name| cmd(command).arg(key).arg(name).take()).collect()
        };
        let (vectors, other_vectors) = pair.both(&ask("VEMB"))?;
        let (attributes, other_attributes) = pair.both(&ask("VGETATTR"))?;
        for (name, (a, b)) in chunk.iter().zip(vectors.into_iter().zip(other_vectors)) {
            let (a, b): (Vec<f64>, Vec<f64>) = (parse(a)?, parse(b)?);
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > COMPONENT_TOLERANCE * a.abs().max(1.0);
            if a.len() != b.len() || a.iter().zip(&b).any(far) {
                return Ok(Some(format!("vector {}: {a:?} against {b:?}", show(name))));
            }
        }
        for (name, (a, b)) in chunk.iter().zip(attributes.into_iter().zip(other_attributes)) {
            let (a, b): (Option<Vec<u8>>, Option<Vec<u8>>) = (parse(a)?, parse(b)?);
            if a != b {
                let (a, b) = (show(&a.unwrap_or_default()), show(&b.unwrap_or_default()));
                return Ok(Some(format!("attributes of vector {}: {a} against {b}", show(name))));
            }
        }
    }
    Ok(None)
}

pub fn arrays(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    for (what, question) in [("length", "ARLEN"), ("elements", "ARCOUNT"), ("next index", "ARNEXT")] {
        let (first, second): (u64, u64) = pair.both_one(cmd(question).arg(key))?;
        if first != second {
            return Ok(Some(format!("{what} of an array: {first} against {second}")));
        }
    }
    type Element = (u64, Vec<u8>);
    let mut start = 0u64;
    loop {
        let scan =
            cmd("ARSCAN").arg(key).arg(start).arg(u64::MAX - 1).arg("LIMIT").arg(ELEMENTS_PER_CHUNK).take();
        let (first, second): (Vec<Element>, Vec<Element>) = pair.both_one(&scan)?;
        if let Some((a, b)) = first.iter().zip(&second).find(|(a, b)| a != b) {
            let (a, b) = (format!("{} at {}", show(&a.1), a.0), format!("{} at {}", show(&b.1), b.0));
            return Ok(Some(format!("array: {a} against {b}")));
        }
        match first.last() {
            Some((last, _)) if *last < u64::MAX - 1 => start = last.saturating_add(1),
            _ => return Ok(None),
        }
    }
}
