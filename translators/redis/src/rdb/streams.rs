//! The layouts of streams. A stream has only ever grown: each type is the one before it with steps put in.

use super::layout::{HAS_ACTIVE_TIME, IDS, Meaning, Op, Step, always, bytes, number, repeat, text};
use crate::releases::since::{common, redis};

pub const STREAM: &[Step] = &[
    NODES,
    LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        PENDING,
        repeat(&[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_PENDING]),
    ]),
];

pub const STREAM_2: &[Step] = &[
    NODES,
    LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    FIRST_ID,
    FIRST_ID,
    MAX_DELETED,
    MAX_DELETED,
    ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        repeat(&[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_PENDING]),
    ]),
];

pub const STREAM_3: &[Step] = &[
    NODES,
    LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    FIRST_ID,
    FIRST_ID,
    MAX_DELETED,
    MAX_DELETED,
    ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        repeat(CONSUMER_3),
    ]),
];

pub const STREAM_4: &[Step] = &[
    NODES,
    LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    FIRST_ID,
    FIRST_ID,
    MAX_DELETED,
    MAX_DELETED,
    ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        repeat(CONSUMER_3),
    ]),
    IDEMPOTENCE_SETTING,
    IDEMPOTENCE_SETTING,
    PRODUCERS,
    IDEMPOTENCE_ADDED,
    IDEMPOTENCE_DUPLICATES,
];

pub const STREAM_5: &[Step] = &[
    NODES,
    LENGTH,
    number(Meaning::None), // last ID, ms
    number(Meaning::None), // last ID, sequence
    FIRST_ID,
    FIRST_ID,
    MAX_DELETED,
    MAX_DELETED,
    ENTRIES_ADDED,
    repeat(&[
        text(Meaning::None),   // group name
        number(Meaning::None), // last delivered ID, ms
        number(Meaning::None), // last delivered ID, sequence
        GROUP_ENTRIES_READ,
        PENDING,
        // To another form the two go together: what no consumer has must have one there.
        always(Op::Consumers(CONSUMER_3)),
        always(Op::Nacked),
    ]),
    IDEMPOTENCE_SETTING,
    IDEMPOTENCE_SETTING,
    PRODUCERS,
    IDEMPOTENCE_ADDED,
    IDEMPOTENCE_DUPLICATES,
];

const CONSUMER_3: &[Step] =
    &[text(Meaning::None), CONSUMER_SEEN_TIME, CONSUMER_ACTIVE_TIME, CONSUMER_PENDING];

/// First ID of the node (16 bytes), its entries in a listpack.
const NODES: Step = repeat(&[text(Meaning::None), text(Meaning::None)]);
const LENGTH: Step = number(Meaning::StreamLength);
/// Each of these two is one half of an ID, so that they stand twice.
const FIRST_ID: Step = number(Meaning::None).since(common(7, 0));
const MAX_DELETED: Step = number(Meaning::StreamMaxDeleted).since(common(7, 0));
const ENTRIES_ADDED: Step = number(Meaning::StreamEntriesAdded).since(common(7, 0));
const GROUP_ENTRIES_READ: Step = number(Meaning::None).since(common(7, 0));
/// Delivered and not acknowledged: ID, delivery time in Unix ms, delivery count.
const PENDING: Step = repeat(&[bytes(16, Meaning::None), bytes(8, Meaning::None), number(Meaning::None)]);
/// Unix ms.
const CONSUMER_SEEN_TIME: Step = bytes(8, Meaning::None);
/// Unix ms; −1: never.
const CONSUMER_ACTIVE_TIME: Step = bytes(8, Meaning::ConsumerActiveTime).since(HAS_ACTIVE_TIME);
/// IDs, each in its group's pending entries too.
const CONSUMER_PENDING: Step = repeat(IDS);
/// How long, then how many.
const IDEMPOTENCE_SETTING: Step = number(Meaning::IdempotenceSetting).since(redis(8, 6));
/// Producer, (its id, the entry's ID)…
const PRODUCERS: Step = repeat(&[
    text(Meaning::None).since(redis(8, 6)),
    repeat(&[
        text(Meaning::None).since(redis(8, 6)),
        number(Meaning::None).since(redis(8, 6)),
        number(Meaning::None).since(redis(8, 6)),
    ])
    .since(redis(8, 6)),
])
.since(redis(8, 6));
const IDEMPOTENCE_ADDED: Step = number(Meaning::IdempotenceAdded).since(redis(8, 6));
const IDEMPOTENCE_DUPLICATES: Step = number(Meaning::None).since(redis(8, 6));
