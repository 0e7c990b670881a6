//! What lies in the blob store behind a cluster.

use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, Credentials, Region};
use rookery::config::Config;

/// A blob store, looked at from behind.
pub enum Stored {
    /// Files in this folder, two folders deep.
    Folder(PathBuf),
    /// Objects in a bucket of this name.
    Bucket(Client, String),
}

impl Stored {
    /// The one that a configuration names.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        match &config.blobs {
            blobs::Config::Folder { path } => Self::Folder(config.data.join(path)),
            blobs::Config::S3 { endpoint, region, bucket, access_key_id, secret_access_key, .. } => {
                let builder = Builder::new()
                    .behavior_version_latest()
                    .http_client(aws_smithy_http_client::Builder::new().build_http())
                    .region(Region::new(region.clone()))
                    .credentials_provider(Credentials::new(
                        access_key_id,
                        secret_access_key.expose(),
                        None,
                        None,
                        "test",
                    ))
                    .endpoint_url(endpoint.as_deref().unwrap_or_default())
                    .force_path_style(true);
                Self::Bucket(Client::from_conf(builder.build()), bucket.clone())
            }
        }
    }

    /// The names of all that is whole.
    ///
    /// # Panics
    /// When the store cannot be read.
    pub async fn names(&self) -> Vec<String> {
        match self {
            Self::Folder(folder) => {
                let folders = entries(folder).into_iter().filter(|name| name != "incoming");
                let folders = folders.map(|name| folder.join(name));
                let inner = folders.flat_map(|outer| entries(&outer).into_iter().map(move |name| outer.join(name)));
                inner.flat_map(|inner| entries(&inner)).collect()
            }
            Self::Bucket(client, bucket) => {
                let listed = client.list_objects_v2().bucket(bucket).send().await.expect("the server lists it");
                listed.contents().iter().filter_map(|object| object.key().map(str::to_owned)).collect()
            }
        }
    }

    /// How many blobs are on their way. A bucket knows of those that were larger than one part so far.
    ///
    /// # Panics
    /// When the store cannot be read.
    pub async fn unfinished(&self) -> usize {
        match self {
            Self::Folder(folder) => entries(&folder.join("incoming")).len(),
            Self::Bucket(client, bucket) => {
                let listed = client.list_multipart_uploads().bucket(bucket).send().await;
                listed.expect("the server lists them").uploads().len()
            }
        }
    }

    /// Removes a bucket with all that lies in it; a folder goes with its cluster.
    ///
    /// # Panics
    /// When the server does not remove it.
    pub async fn remove(self) {
        let names = self.names().await;
        let Self::Bucket(client, bucket) = self else { return };
        for name in names {
            client.delete_object().bucket(&bucket).key(name).send().await.expect("an object is removed");
        }
        client.delete_bucket().bucket(bucket).send().await.expect("the bucket is removed");
    }
}

/// The names in a folder; none when there is no such folder.
fn entries(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
