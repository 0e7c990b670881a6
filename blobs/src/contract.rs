//! What every blob store must do.
//!
//! `contract_tests!(Place)` makes a test of each check; `Place` is where a store lies: it has `make()`, `store()` and
//! `remove()`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::oneshot;
use types::{AttachmentId, Region};

use crate::{Blobs, Error, ServedAs, Stream};

/// Makes a test of every check of the contract, on the store of a `$place`.
macro_rules! contract_tests {
    ($place:ident; $($check:ident)*) => {
        $(
            #[tokio::test]
            async fn $check() {
                let place = $place::make().await;
                crate::contract::$check(place.store().await).await;
                place.remove().await;
            }
        )*
    };
    ($place:ident) => {
        crate::contract::contract_tests! { $place;
            a_blob_is_read_as_it_was_put
            an_empty_blob_is_a_blob
            a_part_is_cut_to_the_blob
            what_was_never_put_is_not_there
            a_blob_is_replaced_whole
            a_reader_goes_on_with_the_blob_it_began
            a_blob_of_just_the_allowed_size_is_taken
            a_blob_that_is_too_long_leaves_nothing
            an_endless_stream_is_refused_and_not_read_to_its_end
            a_stream_that_breaks_off_leaves_nothing
            a_large_blob_is_read_as_it_was_put
            a_large_blob_is_not_there_before_it_is_whole
            a_put_that_is_given_up_leaves_nothing
            a_refused_blob_leaves_the_one_before_it
            a_deleted_blob_is_gone_and_may_be_deleted_again
            of_many_blobs_put_at_once_under_one_id_one_is_left_whole
            a_link_reads_a_blob_and_says_what_it_is_told_to
            what_a_link_uploads_is_a_blob_once_it_is_kept
            a_link_for_one_size_takes_no_other
        }
    };
}
pub(crate) use contract_tests;

const MIB: u64 = 1024 * 1024;

fn id() -> AttachmentId {
    AttachmentId::generate(Region::default())
}

/// A stream of these pieces.
fn pieces(pieces: impl IntoIterator<Item = impl Into<Bytes>>) -> Stream {
    let pieces: Vec<_> = pieces.into_iter().map(|piece| Ok(piece.into())).collect();
    Box::pin(stream::iter(pieces))
}

/// Bytes that differ from place to place, and from one `salt` to another.
fn noise(length: u32, salt: u32) -> Vec<u8> {
    (0..length).map(|place| (place.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 24) as u8).collect()
}

async fn read(store: &dyn Blobs, id: AttachmentId, range: Option<Range<u64>>) -> Option<Vec<u8>> {
    let stream = store.get(id, range).await.unwrap()?;
    Some(stream.try_fold(Vec::new(), async |all, piece| Ok([&all, &*piece].concat())).await.unwrap())
}

async fn assert_nothing(store: &dyn Blobs, id: AttachmentId) {
    assert_eq!(store.size(id).await.unwrap(), None);
    assert!(store.get(id, None).await.unwrap().is_none());
}

pub(crate) async fn a_blob_is_read_as_it_was_put(store: Arc<dyn Blobs>) {
    let (id, bytes) = (id(), noise(300_000, 0));
    let size = store.put(id, pieces(bytes.chunks(7_001).map(<[u8]>::to_vec)), MIB).await.unwrap();
    assert_eq!(size, 300_000);
    assert_eq!(store.size(id).await.unwrap(), Some(300_000));
    assert_eq!(read(&*store, id, None).await, Some(bytes));
}

pub(crate) async fn an_empty_blob_is_a_blob(store: Arc<dyn Blobs>) {
    let id = id();
    assert_eq!(store.put(id, pieces([""; 0]), 0).await.unwrap(), 0);
    assert_eq!(store.size(id).await.unwrap(), Some(0));
    assert_eq!(read(&*store, id, None).await, Some(vec![]));
}

pub(crate) async fn a_part_is_cut_to_the_blob(store: Arc<dyn Blobs>) {
    let (id, bytes) = (id(), noise(200_000, 0));
    store.put(id, pieces([bytes.clone()]), MIB).await.unwrap();
    for (start, end, cut) in [
        (0, 1, 0..1),
        (0, 200_000, 0..200_000),
        (70_000, 140_001, 70_000..140_001),
        (199_999, 200_001, 199_999..200_000),
        (199_999, u64::MAX, 199_999..200_000),
        (200_000, 200_010, 0..0),
        (u64::MAX - 1, u64::MAX, 0..0),
        (5, 5, 0..0),
        (9, 5, 0..0),
    ] {
        let part = read(&*store, id, Some(start..end)).await;
        assert!(part.as_deref() == Some(&bytes[cut]), "{start}..{end}");
    }
}

pub(crate) async fn what_was_never_put_is_not_there(store: Arc<dyn Blobs>) {
    assert_nothing(&*store, id()).await;
    assert!(store.get(id(), Some(0..5)).await.unwrap().is_none());
}

pub(crate) async fn a_blob_is_replaced_whole(store: Arc<dyn Blobs>) {
    let id = id();
    store.put(id, pieces(["a long blob"]), MIB).await.unwrap();
    store.put(id, pieces(["short"]), MIB).await.unwrap();
    assert_eq!(read(&*store, id, None).await, Some(b"short".to_vec()));
    assert_eq!(store.size(id).await.unwrap(), Some(5));
}

pub(crate) async fn a_reader_goes_on_with_the_blob_it_began(store: Arc<dyn Blobs>) {
    let (id, bytes) = (id(), noise(1_000_000, 1));
    store.put(id, pieces([bytes.clone()]), MIB).await.unwrap();
    let mut reader = store.get(id, None).await.unwrap().unwrap();
    let first = reader.next().await.unwrap().unwrap();
    store.put(id, pieces([noise(1_000_000, 2)]), MIB).await.unwrap();
    store.delete(id).await.unwrap();
    let rest: Vec<_> = reader.try_collect().await.unwrap();
    assert!([vec![first], rest].concat().concat() == bytes);
}

pub(crate) async fn a_blob_of_just_the_allowed_size_is_taken(store: Arc<dyn Blobs>) {
    assert_eq!(store.put(id(), pieces(["12", "345"]), 5).await.unwrap(), 5);
}

pub(crate) async fn a_blob_that_is_too_long_leaves_nothing(store: Arc<dyn Blobs>) {
    let id = id();
    let error = store.put(id, pieces(["12", "3456"]), 5).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_nothing(&*store, id).await;
}

pub(crate) async fn an_endless_stream_is_refused_and_not_read_to_its_end(store: Arc<dyn Blobs>) {
    let id = id();
    let endless = Box::pin(stream::repeat_with(|| Ok(Bytes::from_static(&[7; 1000]))));
    let error = store.put(id, endless, MIB).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_nothing(&*store, id).await;
}

pub(crate) async fn a_stream_that_breaks_off_leaves_nothing(store: Arc<dyn Blobs>) {
    let id = id();
    let broken = [Ok(Bytes::from_static(b"begun")), Err(io::Error::other("the sender is gone"))];
    let error = store.put(id, Box::pin(stream::iter(broken)), MIB).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains("the sender is gone")), "{error}");
    assert_nothing(&*store, id).await;
}

/// More than a store sends with one request, in pieces that fit no part.
fn large() -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = noise(20_000_003, 3);
    let pieces = bytes.chunks(1_000_001).map(<[u8]>::to_vec).collect();
    (bytes, pieces)
}

pub(crate) async fn a_large_blob_is_read_as_it_was_put(store: Arc<dyn Blobs>) {
    let (id, (bytes, cut)) = (id(), large());
    assert_eq!(store.put(id, pieces(cut), 32 * MIB).await.unwrap(), 20_000_003);
    assert_eq!(store.size(id).await.unwrap(), Some(20_000_003));
    assert!(read(&*store, id, None).await.as_ref() == Some(&bytes));
    let part = read(&*store, id, Some(8_388_600..16_777_300)).await;
    assert!(part.as_deref() == Some(&bytes[8_388_600..16_777_300]));
}

pub(crate) async fn a_large_blob_is_not_there_before_it_is_whole(store: Arc<dyn Blobs>) {
    let (id, (_, cut)) = (id(), large());
    let (come, has_come) = oneshot::channel();
    let whole = stream::iter(cut).map(|piece| Ok(Bytes::from(piece)));
    let then_waits = whole.chain(stream::once(async {
        come.send(()).unwrap();
        std::future::pending().await
    }));
    let put = store.put(id, Box::pin(then_waits), 32 * MIB);
    tokio::select! {
        _ = put => unreachable!("the stream never ends"),
        come = has_come => come.unwrap(),
    }
    assert_nothing(&*store, id).await;
}

pub(crate) async fn a_put_that_is_given_up_leaves_nothing(store: Arc<dyn Blobs>) {
    let id = id();
    let (begun, has_begun) = oneshot::channel();
    let first = stream::once(async { Ok(Bytes::from_static(b"begun")) });
    // The store asks for the second piece once it has taken the first.
    let never = stream::once(async {
        begun.send(()).unwrap();
        std::future::pending().await
    });
    let put = tokio::spawn({
        let store = store.clone();
        async move { store.put(id, Box::pin(first.chain(never)), MIB).await }
    });
    has_begun.await.unwrap();
    put.abort();
    assert!(put.await.unwrap_err().is_cancelled());
    assert_nothing(&*store, id).await;
}

pub(crate) async fn a_refused_blob_leaves_the_one_before_it(store: Arc<dyn Blobs>) {
    let id = id();
    store.put(id, pieces(["first"]), MIB).await.unwrap();
    store.put(id, pieces(["second"]), 2).await.unwrap_err();
    assert_eq!(read(&*store, id, None).await, Some(b"first".to_vec()));
}

pub(crate) async fn a_deleted_blob_is_gone_and_may_be_deleted_again(store: Arc<dyn Blobs>) {
    let (gone, kept) = (id(), id());
    store.put(gone, pieces(["gone"]), MIB).await.unwrap();
    store.put(kept, pieces(["kept"]), MIB).await.unwrap();
    store.delete(gone).await.unwrap();
    assert_nothing(&*store, gone).await;
    store.delete(gone).await.unwrap();
    assert_eq!(read(&*store, kept, None).await, Some(b"kept".to_vec()));
}

pub(crate) async fn of_many_blobs_put_at_once_under_one_id_one_is_left_whole(store: Arc<dyn Blobs>) {
    let id = id();
    let puts = (0..8).map(|salt| {
        let store = store.clone();
        tokio::spawn(async move {
            let bytes = noise(100_000, salt << 20);
            store.put(id, pieces(bytes.chunks(9_999).map(<[u8]>::to_vec)), MIB).await.unwrap();
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
    let left = read(&*store, id, None).await.unwrap();
    assert!((0..8).any(|salt| left == noise(100_000, salt << 20)));
}

/// A day.
const TTL: Duration = Duration::from_secs(86_400);

pub(crate) async fn a_link_reads_a_blob_and_says_what_it_is_told_to(store: Arc<dyn Blobs>) {
    let id = id();
    store.put(id, pieces(["linked"]), 6).await.unwrap();
    let served_as = ServedAs { content_type: "image/png", content_disposition: "attachment; filename=\"a b.png\"" };
    let Some(link) = store.presign_get(id, served_as, TTL).await.unwrap() else { return };
    let answer = reqwest::get(&link).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/png");
    assert_eq!(answer.headers()["content-disposition"], "attachment; filename=\"a b.png\"");
    assert_eq!(answer.bytes().await.unwrap(), "linked");
    let forged = reqwest::get(link.replace("a%20b", "a%20c")).await.unwrap();
    assert_eq!(forged.status(), 403);
}

async fn upload(link: &str, bytes: impl Into<reqwest::Body>) -> reqwest::StatusCode {
    reqwest::Client::new().put(link).body(bytes).send().await.unwrap().status()
}

pub(crate) async fn what_a_link_uploads_is_a_blob_once_it_is_kept(store: Arc<dyn Blobs>) {
    let (uploaded, kept, other) = (id(), id(), id());
    let Some(link) = store.presign_put(uploaded, 5, TTL).await.unwrap() else {
        assert_eq!(store.keep_uploaded(uploaded, kept).await.unwrap(), None);
        return;
    };
    assert_eq!(store.keep_uploaded(uploaded, kept).await.unwrap(), None);
    assert_eq!(upload(&link, "first").await, 200);
    assert_nothing(&*store, uploaded).await;
    assert_eq!(store.keep_uploaded(uploaded, kept).await.unwrap(), Some(5));
    // The link still works, and does not reach the blob.
    assert_eq!(upload(&link, "other").await, 200);
    assert_eq!(read(&*store, kept, None).await, Some(b"first".to_vec()));
    assert_eq!(store.keep_uploaded(uploaded, other).await.unwrap(), Some(5));
    assert_eq!(read(&*store, other, None).await, Some(b"other".to_vec()));
    store.delete(uploaded).await.unwrap();
    assert_eq!(store.keep_uploaded(uploaded, id()).await.unwrap(), None);
    assert_eq!(read(&*store, kept, None).await, Some(b"first".to_vec()));
}

pub(crate) async fn a_link_for_one_size_takes_no_other(store: Arc<dyn Blobs>) {
    let (uploaded, kept) = (id(), id());
    let Some(link) = store.presign_put(uploaded, 5, TTL).await.unwrap() else { return };
    assert_eq!(upload(&link, "longer").await, 403);
    assert_eq!(store.keep_uploaded(uploaded, kept).await.unwrap(), None);
}
