//! Values of types that only newer releases have: both stores must have them.

use anyhow::Result;
use redis::cmd;

use super::difference::show;
use super::pair::Pair;

/// A vector set's elements with their vectors, as the store keeps them, and attributes.
pub fn vector_sets(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("VCARD").arg(key))?;
    if first != second {
        return Ok(Some(format!("vector set of {first} against {second} elements")));
    }
    // As many as there are: all of them.
    let elements: Vec<Vec<u8>> = pair.first.ask_one(cmd("VRANDMEMBER").arg(key).arg(first).take())?;
    for element in elements {
        let (a, b): (Vec<f64>, Vec<f64>) = pair.both_one(cmd("VEMB").arg(key).arg(&element))?;
        if a != b {
            return Ok(Some(format!("vector of {}: {a:?} against {b:?}", show(&element))));
        }
        let (a, b): (Option<Vec<u8>>, Option<Vec<u8>>) =
            pair.both_one(cmd("VGETATTR").arg(key).arg(&element))?;
        if a != b {
            return Ok(Some(format!("attributes of {}: {a:?} against {b:?}", show(&element))));
        }
    }
    Ok(None)
}

/// An array's elements with their indices.
pub fn arrays(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (u64, u64) = pair.both_one(cmd("ARLEN").arg(key))?;
    if first != second {
        return Ok(Some(format!("array of length {first} against {second}")));
    }
    let scan = cmd("ARSCAN").arg(key).arg(0).arg(first).take();
    let (first, second): (redis::Value, redis::Value) = pair.both_one(&scan)?;
    Ok((first != second).then(|| format!("array elements {first:?} against {second:?}")))
}
