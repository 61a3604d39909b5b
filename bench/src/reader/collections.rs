//! Values of strings, lists, sets, hashes and sorted sets, compared a chunk at a time. Every function gives
//! the first difference in words, or none.

use anyhow::Result;
use redis::cmd;

use super::difference::show;
use super::pair::{Pair, parse};

const STRING_CHUNK_BYTES: usize = 1 << 20;
/// Elements asked for at a time; the store may answer more for small encodings (SSCAN, HSCAN).
const ELEMENTS_PER_CHUNK: usize = 256;

pub fn strings(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("STRLEN").arg(key))?;
    if first != second {
        return Ok(Some(format!("string of {first} against {second} bytes")));
    }
    for start in (0..first).step_by(STRING_CHUNK_BYTES) {
        let end = start.saturating_add(STRING_CHUNK_BYTES).saturating_sub(1);
        let (a, b): (Vec<u8>, Vec<u8>) = pair.both_one(cmd("GETRANGE").arg(key).arg(start).arg(end))?;
        if let Some(offset) = a.iter().zip(&b).position(|(a, b)| a != b) {
            let (a, b) = (a.get(offset..).unwrap_or_default(), b.get(offset..).unwrap_or_default());
            let offset = start.saturating_add(offset);
            return Ok(Some(format!("string from byte {offset} on: {} against {}", show(a), show(b))));
        }
    }
    Ok(None)
}

pub fn lists(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("LLEN").arg(key))?;
    if first != second {
        return Ok(Some(format!("list of {first} against {second} elements")));
    }
    for start in (0..first).step_by(ELEMENTS_PER_CHUNK) {
        let end = start.saturating_add(ELEMENTS_PER_CHUNK).saturating_sub(1);
        let range = cmd("LRANGE").arg(key).arg(start).arg(end).take();
        let (a, b): (Vec<Vec<u8>>, Vec<Vec<u8>>) = pair.both_one(&range)?;
        if let Some(index) = a.iter().zip(&b).position(|(a, b)| a != b) {
            let (a, b) = (a.get(index).map(|a| show(a)), b.get(index).map(|b| show(b)));
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            return Ok(Some(format!("list element {}: {a} against {b}", start.saturating_add(index))));
        }
    }
    Ok(None)
}

pub fn sets(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("SCARD").arg(key))?;
    if first != second {
        return Ok(Some(format!("set of {first} against {second} members")));
    }
    // Of two sets of one size, the first being within the second means that they are equal.
    let mut cursor = "0".to_owned();
    loop {
        let scan = cmd("SSCAN").arg(key).arg(&cursor).arg("COUNT").arg(ELEMENTS_PER_CHUNK).take();
        let (next, members): (String, Vec<Vec<u8>>) = pair.first.ask_one(scan)?;
        let questions: Vec<_> =
            members.iter().map(|member| cmd("SISMEMBER").arg(key).arg(member).take()).collect();
        for (answer, member) in pair.second.ask(&questions)?.into_iter().zip(&members) {
            if !parse::<bool>(answer)? {
                return Ok(Some(format!("set member {} only in the first store", show(member))));
            }
        }
        if next == "0" {
            return Ok(None);
        }
        cursor = next;
    }
}

pub fn hashes(pair: &mut Pair, key: &[u8], field_ttls: bool) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("HLEN").arg(key))?;
    if first != second {
        return Ok(Some(format!("hash of {first} against {second} fields")));
    }
    let mut cursor = "0".to_owned();
    loop {
        let scan = cmd("HSCAN").arg(key).arg(&cursor).arg("COUNT").arg(ELEMENTS_PER_CHUNK).take();
        let (next, entries): (String, Vec<FieldValue>) = pair.first.ask_one(scan)?;
        let fields: Vec<&Vec<u8>> = entries.iter().map(|(field, _)| field).collect();
        if !fields.is_empty() {
            let values: Vec<Option<Vec<u8>>> =
                pair.second.ask_one(cmd("HMGET").arg(key).arg(&fields).take())?;
            for ((field, first), second) in entries.iter().zip(values) {
                match second {
                    Some(second) if *first == second => {}
                    Some(second) => {
                        let (field, first, second) = (show(field), show(first), show(&second));
                        return Ok(Some(format!("hash field {field}: {first} against {second}")));
                    }
                    None => return Ok(Some(format!("hash field {} only in the first store", show(field)))),
                }
            }
            if field_ttls && let Some(difference) = field_expiries(pair, key, &fields)? {
                return Ok(Some(difference));
            }
        }
        if next == "0" {
            return Ok(None);
        }
        cursor = next;
    }
}

fn field_expiries(pair: &mut Pair, key: &[u8], fields: &[&Vec<u8>]) -> Result<Option<String>> {
    // One answer a field: the time in ms, -1 for none. A release that has no field expiries has none.
    let command = cmd("HPEXPIRETIME").arg(key).arg("FIELDS").arg(fields.len()).arg(fields).take();
    let none = vec![-1; fields.len()];
    let ask = |side: &mut super::pair::Side| -> Result<Vec<i64>> {
        if side.knows_field_expiretime { side.ask_one(command.clone()) } else { Ok(none.clone()) }
    };
    let (first, second) = (ask(&mut pair.first)?, ask(&mut pair.second)?);
    let different = fields.iter().zip(first.iter().zip(&second)).find(|(_, (first, second))| first != second);
    Ok(different.map(|(field, (first, second))| {
        format!("expiry of hash field {}: {first} against {second} ms (-1: never)", show(field))
    }))
}

pub fn sorted_sets(pair: &mut Pair, key: &[u8]) -> Result<Option<String>> {
    let (first, second): (usize, usize) = pair.both_one(cmd("ZCARD").arg(key))?;
    if first != second {
        return Ok(Some(format!("sorted set of {first} against {second} members")));
    }
    // Members of equal score stand in the order of their bytes in every release, so positions compare.
    for start in (0..first).step_by(ELEMENTS_PER_CHUNK) {
        let end = start.saturating_add(ELEMENTS_PER_CHUNK).saturating_sub(1);
        let range = cmd("ZRANGE").arg(key).arg(start).arg(end).arg("WITHSCORES").take();
        let (a, b): (Vec<Scored>, Vec<Scored>) = pair.both_one(&range)?;
        // Scores as numbers: releases print the same number in different words.
        let unequal = a.iter().zip(&b).find(|(a, b)| a != b);
        if let Some(((first, first_score), (second, second_score))) = unequal {
            let (first, second) = (show(first), show(second));
            let what = format!("{first} at {first_score} against {second} at {second_score}");
            return Ok(Some(format!("sorted set: {what}")));
        }
    }
    Ok(None)
}

type FieldValue = (Vec<u8>, Vec<u8>);
type Scored = (Vec<u8>, f64);
