//! What goes with a message that was moved, as headers that any tool for AMQP shows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, LongString},
};

use crate::queue::{DELIVERY_LIMIT, Move, QueueKind, QueueSpec};

/// All moves, the latest one last.
const MOVES: &str = "palfrey-moves";

// Of the latest one, where people look first.
const REASON: &str = "palfrey-reason";
const QUEUE: &str = "palfrey-queue";
const TIME: &str = "palfrey-time";
const DELIVERIES: &str = "palfrey-deliveries";

/// RabbitMQ's count of the times that a message came back to a quorum queue. Its first delivery has none.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// RabbitMQ's own list of moves, the latest one first.
const DEATHS: &str = "x-death";

/// A message's time in a queue was up, as it was meant to be: no move to tell of.
const EXPIRED: &str = "expired";
const DELIVERY_LIMIT_REACHED: &str = "delivery_limit";

pub(super) fn of_moves(moves: &[Move]) -> FieldTable {
    let mut headers = FieldTable::default();
    if let Some(latest) = moves.last() {
        headers.insert(REASON.into(), text(&latest.reason));
        headers.insert(QUEUE.into(), text(&latest.from));
        headers.insert(TIME.into(), AMQPValue::LongLongInt(unix_millis(latest.at)));
        headers.insert(DELIVERIES.into(), AMQPValue::LongLongInt(latest.deliveries.into()));
        let moves = moves.iter().map(|one| AMQPValue::FieldTable(table(one))).collect::<Vec<_>>();
        headers.insert(MOVES.into(), AMQPValue::FieldArray(FieldArray::from(moves)));
    }
    headers
}

fn table(of: &Move) -> FieldTable {
    let mut table = FieldTable::default();
    table.insert("from".into(), text(&of.from));
    table.insert("to".into(), text(&of.to));
    table.insert("reason".into(), text(&of.reason));
    table.insert("time".into(), AMQPValue::LongLongInt(unix_millis(of.at)));
    table.insert("deliveries".into(), AMQPValue::LongLongInt(of.deliveries.into()));
    table.insert("times".into(), AMQPValue::LongLongInt(of.times.into()));
    table
}

/// The moves of a message, those by the broker itself included.
pub(super) fn moves(properties: &BasicProperties) -> Vec<Move> {
    let Some(headers) = properties.headers().as_ref() else { return Vec::new() };
    let ours = tables(headers, MOVES).filter_map(parse);
    let mut moves: Vec<_> = ours.collect();
    let mut deaths: Vec<_> = tables(headers, DEATHS).filter_map(|death| parse_death(death, headers)).collect();
    deaths.reverse();
    moves.append(&mut deaths);
    moves
}

/// How often the message came back to its queue, where that is counted.
pub(super) fn earlier_deliveries(properties: &BasicProperties) -> Option<u32> {
    number(properties.headers().as_ref()?, DELIVERY_COUNT)
}

fn parse(table: &FieldTable) -> Option<Move> {
    Some(Move {
        from: string(table, "from")?,
        to: string(table, "to")?,
        reason: string(table, "reason")?,
        at: UNIX_EPOCH.checked_add(Duration::from_millis(number(table, "time")?))?,
        deliveries: number(table, "deliveries")?,
        times: number(table, "times")?,
    })
}

fn parse_death(table: &FieldTable, headers: &FieldTable) -> Option<Move> {
    let (from, reason) = (string(table, "queue")?, string(table, "reason")?);
    if reason == EXPIRED {
        return None;
    }
    let seconds = match table.inner().get("time")? {
        AMQPValue::Timestamp(seconds) => *seconds,
        _ => return None,
    };
    let limit = (reason == DELIVERY_LIMIT_REACHED).then_some(DELIVERY_LIMIT.saturating_add(1));
    Some(Move {
        to: QueueSpec::new(&*from, QueueKind::Tasks).dead_letters()?.name,
        from,
        at: UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?,
        deliveries: limit.or_else(|| number(headers, DELIVERY_COUNT)).unwrap_or(1),
        times: number(table, "count").unwrap_or(1),
        reason,
    })
}

fn tables<'a>(headers: &'a FieldTable, name: &str) -> impl Iterator<Item = &'a FieldTable> {
    let array = match headers.inner().get(name) {
        Some(AMQPValue::FieldArray(array)) => array.as_slice(),
        _ => &[],
    };
    array.iter().filter_map(|value| match value {
        AMQPValue::FieldTable(table) => Some(table),
        _ => None,
    })
}

fn string(table: &FieldTable, name: &str) -> Option<String> {
    match table.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A number of whatever width, if it fits.
fn number<N: TryFrom<i128>>(table: &FieldTable, name: &str) -> Option<N> {
    let number: i128 = match *table.inner().get(name)? {
        AMQPValue::ShortShortInt(number) => number.into(),
        AMQPValue::ShortShortUInt(number) => number.into(),
        AMQPValue::ShortInt(number) => number.into(),
        AMQPValue::ShortUInt(number) => number.into(),
        AMQPValue::LongInt(number) => number.into(),
        AMQPValue::LongUInt(number) => number.into(),
        AMQPValue::LongLongInt(number) => number.into(),
        _ => return None,
    };
    N::try_from(number).ok()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

fn unix_millis(at: SystemTime) -> i64 {
    // Before 1970 and after the year 292 million the clock is wrong.
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use lapin::types::{generation::gen_field_table, parsing::parse_field_table};

    use super::*;
    use crate::queue::moves::moved;

    /// What released versions have written: it is never changed.
    const RECORDED: &str = include_str!("../../../tests/recorded/moves-1/headers.hex");

    #[test]
    fn recorded_headers_are_read_and_are_still_written_in_the_same_way() {
        let recorded = hex::decode(RECORDED.split_whitespace().collect::<String>()).unwrap();
        let moved = |to: &str, reason: &str, millis, deliveries, times| Move {
            from: "default".to_owned(),
            to: to.to_owned(),
            reason: reason.to_owned(),
            at: UNIX_EPOCH + Duration::from_millis(millis),
            deliveries,
            times,
        };
        let expected = [
            moved("default.later", "not yet", 1_700_000_000_123, 1, 3),
            moved("default.suspects", "it came back again and again", 1_700_000_010_456, 4, 1),
        ];
        let (rest, headers) = parse_field_table(&recorded[..]).unwrap();
        assert_eq!((rest.len(), moves(&BasicProperties::default().with_headers(headers))), (0, expected.to_vec()));
        let mut written = vec![0; recorded.len()];
        let headers = of_moves(&expected);
        let end = gen_field_table(&headers)(Cursor::new(&mut written[..]).into()).unwrap().position;
        assert_eq!((end, hex::encode(written)), (recorded.len() as u64, hex::encode(recorded)));
    }

    #[test]
    fn headers_read_back_what_was_written() {
        let moves = moved(Vec::new(), "tasks", "tasks.suspects", "it came back too often", 3);
        let mut moves = moved(moves, "tasks.suspects", "tasks.dead", "poison", 4);
        for one in &mut moves {
            // The nanoseconds do not travel.
            one.at = UNIX_EPOCH + Duration::from_millis(unix_millis(one.at).unsigned_abs());
        }
        let properties = BasicProperties::default().with_headers(of_moves(&moves));
        assert_eq!(super::moves(&properties), moves);
    }

    #[test]
    fn headers_of_others_are_no_moves() {
        let mut nonsense = FieldTable::default();
        nonsense.insert(MOVES.into(), AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Void])));
        nonsense.insert(DEATHS.into(), text("x"));
        nonsense.insert(DELIVERY_COUNT.into(), AMQPValue::LongLongInt(-1));
        let properties = BasicProperties::default().with_headers(nonsense);
        assert_eq!(moves(&properties), []);
        assert_eq!(earlier_deliveries(&properties), None);
    }

    mod hostile {
        use proptest::{collection::vec, prelude::*};

        use super::*;

        fn names() -> impl Strategy<Value = String> {
            let ours = [
                MOVES,
                DEATHS,
                DELIVERY_COUNT,
                REASON,
                "from",
                "to",
                "reason",
                "time",
                "deliveries",
                "times",
                "queue",
                "count",
            ];
            prop_oneof![9 => proptest::sample::select(ours.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}"]
        }

        fn values() -> impl Strategy<Value = AMQPValue> {
            let texts = prop_oneof![
                vec(any::<u8>(), 0..20),
                proptest::sample::select(vec![EXPIRED, DELIVERY_LIMIT_REACHED, "tasks", "tasks.dead", ""])
                    .prop_map(|text| text.as_bytes().to_vec()),
                (0..10_000_usize).prop_map(|length| vec![b'x'; length]),
            ];
            let leaf = prop_oneof![
                4 => texts.prop_map(|text| AMQPValue::LongString(text.into())),
                1 => any::<i8>().prop_map(AMQPValue::ShortShortInt),
                1 => any::<u8>().prop_map(AMQPValue::ShortShortUInt),
                1 => any::<i16>().prop_map(AMQPValue::ShortInt),
                1 => any::<u16>().prop_map(AMQPValue::ShortUInt),
                1 => any::<i32>().prop_map(AMQPValue::LongInt),
                1 => any::<u32>().prop_map(AMQPValue::LongUInt),
                3 => any::<i64>().prop_map(AMQPValue::LongLongInt),
                2 => any::<u64>().prop_map(AMQPValue::Timestamp),
                1 => Just(AMQPValue::Void),
                1 => any::<bool>().prop_map(AMQPValue::Boolean),
            ];
            leaf.prop_recursive(3, 64, 8, |inner| {
                prop_oneof![
                    vec(inner.clone(), 0..8).prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values))),
                    vec((names(), inner), 0..8).prop_map(|fields| AMQPValue::FieldTable(table_of(fields))),
                ]
            })
        }

        fn table_of(fields: Vec<(String, AMQPValue)>) -> FieldTable {
            let mut table = FieldTable::default();
            for (name, value) in fields {
                table.insert(name.as_str().into(), value);
            }
            table
        }

        /// A move that has all it needs, unless something was put in its place; and lists of them.
        fn lists() -> impl Strategy<Value = AMQPValue> {
            let honest = [
                ("from", text("tasks")),
                ("to", text("tasks.dead")),
                ("queue", text("tasks")),
                ("reason", text("rejected")),
                ("time", AMQPValue::Timestamp(1_700_000_000)),
                ("time", AMQPValue::LongLongInt(1_700_000_000_000)),
                ("deliveries", AMQPValue::LongLongInt(3)),
                ("times", AMQPValue::LongLongInt(1)),
                ("count", AMQPValue::LongLongInt(1)),
            ];
            let honest = proptest::sample::subsequence(honest.to_vec(), 5..=9);
            let fields = (honest, vec((names(), values()), 0..2)).prop_map(|(honest, others)| {
                let honest = honest.into_iter().map(|(name, value)| (name.to_owned(), value));
                AMQPValue::FieldTable(table_of(honest.chain(others).collect()))
            });
            vec(prop_oneof![4 => fields, 1 => values()], 0..20)
                .prop_map(|values| AMQPValue::FieldArray(FieldArray::from(values)))
        }

        proptest! {
            /// Whatever the headers are, the moves are those that are whole, and are read back once they were written. Memory is
            /// that of their texts, which may be three times as long when they are no text.
            #[test]
            fn headers_of_any_kind_are_moves_that_read_back_or_none(
                ours in lists(),
                theirs in lists(),
                fields in vec((names(), values()), 0..6),
            ) {
                let mut headers = table_of(fields);
                headers.insert(MOVES.into(), ours);
                headers.insert(DEATHS.into(), theirs);
                let size = format!("{headers:?}").len() as u64;
                let properties = BasicProperties::default().with_headers(headers);
                let mut read = Vec::new();
                let allocated = allocation_counter::measure(|| {
                    read = super::moves(&properties);
                    _ = earlier_deliveries(&properties);
                });
                prop_assert!(allocated.bytes_max <= 16 * size + (64 << 10), "{} for {size}", allocated.bytes_max);
                let again = |moves: &[Move]| super::moves(&BasicProperties::default().with_headers(of_moves(moves)));
                let written = again(&read);
                prop_assert_eq!(written.len(), read.len());
                // A time that does not fit is cut once.
                prop_assert_eq!(again(&written), written);
            }
        }
    }
}
