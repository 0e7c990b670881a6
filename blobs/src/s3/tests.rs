use std::io;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::net::TcpListener;
use types::Region;

use super::*;

/// A bucket of this test's own.
struct Place {
    config: Config,
}

impl Place {
    /// A bucket that is not made yet.
    fn named() -> Self {
        let servers::S3 { endpoint, region, access_key_id, secret_access_key } = servers::endpoints().s3.clone();
        Self {
            config: Config::S3 {
                endpoint: Some(endpoint),
                region,
                bucket: format!("blobs-{}", id()),
                access_key_id,
                secret_access_key: secret_access_key.into(),
                path_style: true,
                public_endpoint: None,
            },
        }
    }

    async fn make() -> Self {
        let place = Self::named();
        migrate(&place.config).await.unwrap();
        place
    }

    async fn store(&self) -> Arc<dyn Blobs> {
        open(&self.config).await.unwrap()
    }

    async fn remove(self) {
        let Connected { client, bucket, .. } = client::connect(&self.config).unwrap();
        let objects = client.list_objects_v2().bucket(&bucket).send().await.unwrap();
        for object in objects.contents() {
            client.delete_object().bucket(&bucket).key(object.key().unwrap()).send().await.unwrap();
        }
        client.delete_bucket().bucket(&bucket).send().await.unwrap();
    }
}

crate::contract::contract_tests!(Place);

fn id() -> AttachmentId {
    AttachmentId::generate(Region::default())
}

fn small() -> Stream {
    Box::pin(stream::iter([Ok(Bytes::from_static(b"small"))]))
}

#[tokio::test]
async fn a_bucket_is_made_twice_and_at_once() {
    let place = Place::named();
    let Err(error) = open(&place.config).await else { panic!("it is open without its bucket") };
    assert!(error.to_string().contains("rookery migrate"), "{error}");
    let (one, other) = tokio::join!(migrate(&place.config), migrate(&place.config));
    one.unwrap();
    other.unwrap();
    let store = place.store().await;
    let id = id();
    store.put(id, small(), 5).await.unwrap();
    migrate(&place.config).await.unwrap();
    assert_eq!(store.size(id).await.unwrap(), Some(5));
    place.remove().await;
}

/// Waits, within a bound, until no upload in parts is unfinished.
async fn assert_none_unfinished(place: &Place) {
    let Connected { client, bucket, .. } = client::connect(&place.config).unwrap();
    let none_left = async {
        while !client.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), none_left).await.unwrap();
}

#[tokio::test]
async fn a_large_put_that_fails_or_is_given_up_leaves_no_parts() {
    let place = Place::make().await;
    let store = place.store().await;
    let piece = || stream::iter([Ok(Bytes::from(vec![7; 9 << 20]))]);
    let broken = piece().chain(stream::iter([Err(io::Error::other("gone"))]));
    store.put(id(), Box::pin(broken), 32 << 20).await.unwrap_err();
    assert_none_unfinished(&place).await;

    let then_waits = piece().chain(stream::pending());
    let mut put = store.put(id(), Box::pin(then_waits), 32 << 20);
    let Connected { client, bucket, .. } = client::connect(&place.config).unwrap();
    let has_begun = async {
        while client.list_multipart_uploads().bucket(&bucket).send().await.unwrap().uploads().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut put => unreachable!("the stream never ends"),
        () = has_begun => drop(put),
    }
    assert_none_unfinished(&place).await;
    place.remove().await;
}

#[tokio::test]
async fn links_lead_to_where_clients_reach_the_server() {
    let place = Place::make().await;
    let mut config = place.config.clone();
    let Config::S3 { public_endpoint, .. } = &mut config else { unreachable!("it is a bucket") };
    *public_endpoint = Some("https://files.example.org".into());
    let store = open(&config).await.unwrap();
    let link = store.presign_put(id(), 5, Duration::from_secs(60)).await.unwrap().unwrap();
    assert!(link.starts_with("https://files.example.org/blobs-"), "{link}");
    place.remove().await;
}

#[tokio::test]
async fn a_bucket_that_was_never_made_is_told_from_a_server_that_is_away() {
    let error = open(&Place::named().config).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::Unfit(why) if why.contains("rookery migrate")), "{error}");
}

async fn assert_unavailable_within(seconds: u64, endpoint: String) {
    let mut config = Place::named().config;
    let Config::S3 { endpoint: present, .. } = &mut config else { unreachable!("it is a bucket") };
    *present = Some(endpoint);
    let begun = Instant::now();
    let Connected { client, public, bucket } = client::connect(&config).unwrap();
    let store = S3 { client, public, bucket };
    let errors = [
        open(&config).await.map(drop).unwrap_err(),
        store.put(id(), small(), 5).await.unwrap_err(),
        store.get(id(), None).await.map(drop).unwrap_err(),
        store.delete(id()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Unavailable(_)), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(seconds), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable_soon() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_unavailable_within(20, format!("http://{address}")).await;
}
