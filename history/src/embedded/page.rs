//! Pages of messages and of events.

use std::ops::Range;

use fjall::{Guard, Iter, Slice};
use types::{ConversationId, Entry, Timestamp};

use super::row::Row;
use super::store::{Store, View};
use super::table::{self, Class, Number, Place, Table};
use crate::{Message, Order, Page, Result};

impl Store {
    pub(super) fn messages(&self, conversation: ConversationId, page: &Page) -> Result<Vec<Message>> {
        let view = self.view();
        let Some(number) = view.number(conversation)? else { return Ok(Vec::new()) };
        let mut end = page.before_seq.unwrap_or(u64::MAX);
        let mut first = page.after_seq.map_or(0, |seq| seq.saturating_add(1));
        if let Some(since) = page.since {
            end = end.min(view.tail_row(number)?.last_message + 1);
            first = first_since(&view, number, since, first..end)?;
        }
        if first >= end {
            return Ok(Vec::new());
        }
        let Some(sender) = page.sender else {
            let rows = ordered(message_rows(&view, number, first..end), page.order);
            return rows.take(page.limit).map(|row| read_message(conversation, row)).collect();
        };
        let sent = view.range(Table::Senders, number.sent(sender, first), number.sent(sender, end));
        let messages = ordered(sent, page.order).map(|key| {
            let seq = table::seq_of(&key.key()?)?;
            view.row(number, Place::message(seq))?.into_message(conversation, seq)
        });
        let of_sender = |message: &Result<Message>| message.as_ref().map_or(true, |message| message.sender == sender);
        messages.filter(of_sender).take(page.limit).collect()
    }

    pub(super) fn events(&self, conversation: ConversationId, after_seq: u64, limit: usize) -> Result<Vec<Entry>> {
        let view = self.view();
        let Some(number) = view.number(conversation)? else { return Ok(Vec::new()) };
        let rows = |class| {
            let (first, end) = (Place { class, seq: after_seq.saturating_add(1) }, Place { class, seq: u64::MAX });
            view.range(Table::Events, number.event(first), number.event(end)).map(numbered).peekable()
        };
        let (mut messages, mut others) = (rows(Class::Message), rows(Class::Other));
        let in_order = std::iter::from_fn(|| match (messages.peek(), others.peek()) {
            (Some(Ok((message, _))), Some(Ok((other, _)))) if other < message => others.next(),
            (None, _) => others.next(),
            _ => messages.next(),
        });
        let entry = |row: Result<(u64, Slice)>| {
            let (seq, row) = row?;
            Ok(Row::decode(&row)?.into_entry(conversation, seq))
        };
        in_order.take(limit).map(entry).collect()
    }

    pub(super) fn last_seq(&self, conversation: ConversationId, until: u64) -> Result<u64> {
        let view = self.view();
        let Some(number) = view.number(conversation)? else { return Ok(0) };
        let last = |class| {
            let (first, end) = (Place { class, seq: 0 }, Place { class, seq: until.saturating_add(1) });
            view.range(Table::Events, number.event(first), number.event(end)).next_back().map(numbered).transpose()
        };
        let seqs = [last(Class::Message)?, last(Class::Other)?].into_iter().flatten().map(|(seq, _)| seq);
        Ok(seqs.max().unwrap_or(0))
    }
}

/// The first place in `seqs` of a message that was stored at `since` or later; the end when there is none. As
/// times grow with `seq`, it is found in as many steps as the range has binary digits, without an index.
fn first_since(view: &View<'_>, number: Number, since: Timestamp, seqs: Range<u64>) -> Result<u64> {
    let Range { start: mut first, mut end } = seqs;
    while first < end {
        let middle = first + (end - first) / 2;
        let next = message_rows(view, number, middle..end).next().map(numbered).transpose()?;
        match next {
            Some((seq, row)) if Row::decode_at(&row)? < since => first = seq + 1,
            _ => end = middle,
        }
    }
    Ok(end)
}

fn message_rows(view: &View<'_>, number: Number, seqs: Range<u64>) -> Iter {
    view.range(Table::Events, number.event(Place::message(seqs.start)), number.event(Place::message(seqs.end)))
}

fn ordered(rows: Iter, order: Order) -> Box<dyn Iterator<Item = Guard>> {
    match order {
        Order::Asc => Box::new(rows),
        Order::Desc => Box::new(rows.rev()),
    }
}

fn read_message(conversation: ConversationId, row: Guard) -> Result<Message> {
    let (seq, row) = numbered(row)?;
    Row::decode(&row)?.into_message(conversation, seq)
}

fn numbered(row: Guard) -> Result<(u64, Slice)> {
    let (key, row) = row.into_inner()?;
    Ok((table::seq_of(&key)?, row))
}
