//! What is asked of etcd's JSON gateway, and what it answers: keys and values in base64, 64-bit numbers as
//! texts, and left out what is zero or empty. Answers are read under both spellings of the gateway's releases.

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Blob(pub Bytes);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number(pub i64);

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub revision: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub key: Blob,
    pub value: Blob,
    #[serde(alias = "modRevision")]
    pub mod_revision: Number,
    /// 0: it stays until it is deleted.
    pub lease: Number,
}

/// Of one key, or of all from the first to before the last.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Range {
    pub key: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_end: Option<Blob>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ranged {
    pub header: Header,
    pub kvs: Vec<KeyValue>,
}

/// The successes if all that is compared holds, else the failures.
#[derive(Debug, Serialize)]
pub(super) struct Transaction {
    pub compare: Vec<Compare>,
    pub success: Vec<Operation>,
    pub failure: Vec<Operation>,
}

#[derive(Debug, Serialize)]
pub(super) struct Compare {
    key: Blob,
    target: &'static str,
    result: &'static str,
    mod_revision: Number,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Operation {
    RequestPut(Put),
    RequestRange(Range),
}

#[derive(Debug, Serialize)]
pub(super) struct Put {
    pub key: Blob,
    pub value: Blob,
    pub lease: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Transacted {
    pub header: Header,
    pub succeeded: bool,
    pub responses: Vec<Operated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Operated {
    #[serde(alias = "responseRange")]
    response_range: Option<Ranged>,
}

#[derive(Debug, Serialize)]
pub(super) struct Grant {
    #[serde(rename = "TTL")]
    pub ttl: Number,
}

#[derive(Debug, Serialize)]
pub(super) struct LeaseId {
    #[serde(rename = "ID")]
    pub id: Number,
}

/// Of a lease that is not there any more, without a time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Leased {
    #[serde(rename = "ID")]
    pub id: Number,
    #[serde(rename = "TTL")]
    pub ttl: Number,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Revoked {}

#[derive(Debug, Serialize)]
pub(super) struct Watch {
    create_request: CreateWatch,
}

#[derive(Debug, Serialize)]
struct CreateWatch {
    #[serde(flatten)]
    range: Range,
    start_revision: Number,
    /// Answers are cut where they would grow too large.
    fragment: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Watched {
    pub canceled: bool,
    #[serde(alias = "cancelReason")]
    pub cancel_reason: String,
    #[serde(alias = "compactRevision")]
    pub compact_revision: Number,
    pub events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub kind: EventKind,
    pub kv: KeyValue,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum EventKind {
    #[default]
    Put,
    Delete,
}

/// One line of an answer that goes on.
#[derive(Debug, Deserialize)]
pub(super) struct Line<A> {
    pub result: Option<A>,
    pub error: Option<Refusal>,
}

/// Anything but 200, or the end of an answer that goes on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(alias = "grpc_code")]
    pub code: i64,
    pub message: String,
}

#[derive(Serialize)]
pub(super) struct Authenticate<'a> {
    pub name: &'a str,
    pub password: &'a str,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Authenticated {
    pub token: String,
}

impl Range {
    pub fn one(key: &Blob) -> Self {
        Self { key: key.clone(), range_end: None }
    }

    /// All keys that begin like this, with a text that does not end in the last of all characters.
    pub fn prefix(text: &str) -> Self {
        let mut end = text.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last = last.saturating_add(1);
        }
        Self { key: Blob::from(text.to_owned()), range_end: Some(Blob(end.into())) }
    }
}

impl Compare {
    /// 0: the key is not there.
    pub fn mod_revision(key: &Blob, mod_revision: i64) -> Self {
        Self { key: key.clone(), target: "MOD", result: "EQUAL", mod_revision: Number(mod_revision) }
    }
}

impl Transacted {
    /// What the only range of it found.
    pub fn found(self) -> Option<KeyValue> {
        self.responses.into_iter().find_map(|answer| answer.response_range)?.kvs.into_iter().next()
    }
}

impl Watch {
    pub fn from(range: Range, start_revision: i64) -> Self {
        let start_revision = Number(start_revision);
        Self { create_request: CreateWatch { range, start_revision, fragment: true } }
    }
}

impl From<String> for Blob {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map(|bytes| Self(bytes.into())).map_err(de::Error::custom)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Number(i64),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map(Self).map_err(de::Error::custom),
            Written::Number(number) => Ok(Self(number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_old_and_new_gateways_are_read() {
        let old = r#"{"header":{"cluster_id":"15118495548433857066","revision":"2"},"responses":[
            {"response_range":{"kvs":[{"key":"Zm9v","create_revision":"2","mod_revision":"2","value":"YQ=="}]}}]}"#;
        let new = r#"{"header":{"revision":2},"succeeded":false,"responses":[
            {"responseRange":{"kvs":[{"key":"Zm9v","modRevision":"2","value":"YQ==","lease":"0"}]}}]}"#;
        for text in [old, new] {
            let answer: Transacted = serde_json::from_str(text).unwrap();
            assert_eq!((answer.header.revision, answer.succeeded), (Number(2), false));
            let found = answer.found().unwrap();
            assert_eq!(
                (found.key.0, found.mod_revision, found.value.0),
                ("foo".into(), Number(2), "a".into())
            );
        }
        let event: Watched =
            serde_json::from_str(r#"{"events":[{"type":"DELETE","kv":{"key":"Zm9v"}},{"kv":{}}]}"#).unwrap();
        assert_eq!([event.events[0].kind, event.events[1].kind], [EventKind::Delete, EventKind::Put]);
    }

    #[test]
    fn questions_are_as_the_gateway_expects_them() {
        let key = Blob::from("foo".to_owned());
        let put = Put { key: key.clone(), value: Blob::from("a".to_owned()), lease: Number(7) };
        let asked = Transaction {
            compare: vec![Compare::mod_revision(&key, 0)],
            success: vec![Operation::RequestPut(put)],
            failure: vec![Operation::RequestRange(Range::one(&key))],
        };
        assert_eq!(
            serde_json::to_string(&asked).unwrap(),
            r#"{"compare":[{"key":"Zm9v","target":"MOD","result":"EQUAL","mod_revision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ==","lease":"7"}}],"failure":[{"request_range":{"key":"Zm9v"}}]}"#
        );
        let watch = serde_json::to_string(&Watch::from(Range::prefix("/a/"), 3)).unwrap();
        assert_eq!(
            watch,
            r#"{"create_request":{"key":"L2Ev","range_end":"L2Ew","start_revision":"3","fragment":true}}"#
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [r#"{"revision":"x"}"#, r#"{"revision":{}}"#, "[]", ""] {
            assert!(serde_json::from_str::<Header>(text).is_err() || text == "[]", "{text}");
        }
        assert!(serde_json::from_str::<KeyValue>(r#"{"value":"not base64!"}"#).is_err());
    }
}
