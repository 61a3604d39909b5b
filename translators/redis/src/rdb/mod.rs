//! RDB snapshots and DUMP payloads, rewritten to what another release loads.
//!
//! Sources: RDB 6 to 12 (Redis up to 8.2, Redict, Valkey up to 8.1). Targets: every release known.
//!
//! | type or opcode | loaded from | becomes for others |
//! |---|---|---|
//! | 16 HASH_LISTPACK | 7.0 | 13 HASH_ZIPLIST |
//! | 17 ZSET_LISTPACK | 7.0 | 12 ZSET_ZIPLIST |
//! | 18 LIST_QUICKLIST_2 | 7.0 | 14 LIST_QUICKLIST, node by node |
//! | 19 STREAM_LISTPACKS_2 | 7.0 | 15 STREAM_LISTPACKS (loss `stream-counters`, where they say something) |
//! | 20 SET_LISTPACK | 7.2 | 2 SET |
//! | 21 STREAM_LISTPACKS_3 | 7.2 | 19 or 15 (loss `stream-consumer-active-time`) |
//! | 24 HASH_METADATA, 25 HASH_LISTPACK_EX | Redis 7.4 | 4 HASH (loss `hash-field-ttl`, where a field has one) |
//! | 7 MODULE_2 | | the same, where the target has the module; else left out (loss `vector-set`, `module-type`) |
//! | 247 MODULE_AUX | | the same, where the target has the module; else left out (loss `module-aux`) |
//! | 245 FUNCTION2 | 7.0 | left out (loss `function-library`) |
//! | 244 SLOT_INFO | Redis 7.4, Redict 7.3, Valkey 9.0 | left out: only a hint |
//!
//! All others pass as they are. LZF strings pass packed; nothing is packed anew. The two `stream-…`
//! losses are [`segue_wire::Grade::Bookkeeping`], all others [`segue_wire::Grade::Data`].
//!
//! | module | holds |
//! |---|---|
//! | `layout` | every item's layout, as a table |
//! | `walk`, `text`, `notes` | the walk over a layout: numbers and bytes; strings; what it saw |
//! | [`table`] | what becomes of which items, for a reader |
//! | `tape` | input moved to output, deferred, left out |
//! | `rewriter`, `payload` | a whole snapshot; a single value |
//! | `convert`, `listpack`, `ziplist` | packed values and their older forms |
//! | `encoding`, `lzf` | numbers and strings |

mod convert;
mod encoding;
mod fuzzing;
mod layout;
mod listpack;
mod lzf;
mod notes;
mod payload;
mod rewriter;
pub mod table;
mod tape;
mod target;
mod text;
mod walk;
mod ziplist;

#[doc(hidden)]
pub use fuzzing::fuzz;
pub use layout::{TYPE_MODULE_2, reads};
pub use payload::{Payload, rewrite_function_payload, rewrite_payload};
pub use rewriter::{Progress, Rewriter};
pub use target::{Headers, Target};
pub use walk::TOKEN_BYTES_MAX;
