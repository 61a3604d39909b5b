//! RDB snapshots and DUMP payloads, rewritten to what another release loads.
//!
//! Sources: RDB 6 to 15 (Redis up to 8.10, Redict, Valkey up to 8.1) and 80 (Valkey 9). Targets: every
//! release known.
//!
//! | type or opcode | loaded from | becomes for others |
//! |---|---|---|
//! | 16 HASH_LISTPACK | 7.0 | 13 HASH_ZIPLIST |
//! | 17 ZSET_LISTPACK | 7.0 | 12 ZSET_ZIPLIST |
//! | 18 LIST_QUICKLIST_2 | 7.0 | 14 LIST_QUICKLIST, node by node |
//! | 19 STREAM_LISTPACKS_2 | 7.0 | 15 STREAM_LISTPACKS (loss `stream-counters`, where they say something) |
//! | 20 SET_LISTPACK | 7.2 | 2 SET |
//! | 21 STREAM_LISTPACKS_3 | 7.2 | 19 or 15 (loss `stream-consumer-active-time`) |
//! | 22 HASH_2 of Valkey | Valkey 9.0 | 24 HASH_METADATA; 4 HASH (loss `hash-field-ttl`) |
//! | 24 HASH_METADATA, 25 HASH_LISTPACK_EX | Redis 7.4 | 22 HASH_2; 4 HASH (loss `hash-field-ttl`, where a field has one) |
//! | 26 STREAM_LISTPACKS_4 | Redis 8.6 | 21, 19 or 15 (loss `stream-idempotence`, where it is used) |
//! | 27 STREAM_LISTPACKS_5 | Redis 8.10 | 26, 21, 19 or 15 (loss `stream-nacked`, where an entry waits for any consumer: it gets one named `segue:nacked`) |
//! | 28 ARRAY | Redis 8.10 | left out (loss `array`) |
//! | 29 to 32, what HIMPORT makes | Redis 8.10 | 4 HASH |
//! | 7 MODULE_2 | | the same, where the target has the module; else left out (loss `vector-set`, `module-type`) |
//! | 247 MODULE_AUX | | the same, where the target has the module; else left out (loss `module-aux`) |
//! | 245 FUNCTION2 | 7.0 | left out (loss `function-library`) |
//! | 244 SLOT_INFO | Redis 7.4, Redict 7.3, Valkey 9.0 | left out: only a hint |
//! | 243 KEY_META of Redis 8.6 | | left out (loss `key-metadata`) |
//! | 243 SLOT_IMPORT of Valkey | Valkey 9.0 | left out (loss `slot-import`) |
//! | 242 HASH_TEMPLATE | Redis 8.10 | goes into the hashes that are of it |
//!
//! All others pass as they are. LZF strings pass packed; nothing is packed anew. Of the `stream-…` losses
//! `stream-nacked` is [`segue_wire::Grade::Data`], the others [`segue_wire::Grade::Bookkeeping`]; all others
//! are [`segue_wire::Grade::Data`].
//!
//! | module | holds |
//! |---|---|
//! | `items`, `streams` | every item's layout, as a table |
//! | `layout` | what a layout is made of |
//! | `versions`, `modules` | headers; modules that come with a store |
//! | `walk`, `text`, `notes` | the walk over a layout: numbers and bytes; strings; what it saw |
//! | [`table`] | what becomes of which items, for a reader |
//! | `templates` | what hashes of HIMPORT are of |
//! | `tape` | input moved to output, deferred, left out |
//! | `rewriter`, `payload` | a whole snapshot; a single value |
//! | `convert`, `listpack`, `ziplist` | packed values and their other forms |
//! | `encoding`, `lzf` | numbers and strings |

mod convert;
mod encoding;
mod fuzzing;
mod items;
mod layout;
mod listpack;
mod lzf;
mod modules;
mod notes;
mod payload;
mod rewriter;
mod streams;
pub mod table;
mod tape;
mod target;
mod templates;
mod text;
mod versions;
mod walk;
mod ziplist;

#[doc(hidden)]
pub use fuzzing::fuzz;
pub use layout::TYPE_MODULE_2;
pub use payload::{Payload, rewrite_function_payload, rewrite_payload};
pub use rewriter::{Progress, Rewriter};
pub use target::Target;
pub use versions::{Headers, reads};
pub use walk::TOKEN_BYTES_MAX;
