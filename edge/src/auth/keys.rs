//! The key that signs access tokens, and its public half as others read it.

use std::io::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use jsonwebtoken::{DecodingKey, EncodingKey};
use sha2::{Digest, Sha256};

use crate::Error;

/// An Ed25519 key.
pub(crate) struct SigningKey {
    /// Signs.
    pub(crate) encoding: EncodingKey,
    /// Verifies.
    pub(crate) decoding: DecodingKey,
    /// The key's name: its thumbprint (RFC 7638).
    pub(crate) id: String,
    /// The public half, in base64url.
    x: String,
}

impl SigningKey {
    /// Reads the key from a PEM file; makes one, readable to this user alone, when there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let pem = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path)?,
            pem => pem.map_err(|error| unusable(path, error))?,
        };
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).map_err(|error| unusable(path, error))?;
        Self::new(&key).map_err(|error| unusable(path, error))
    }

    fn new(key: &ed25519_dalek::SigningKey) -> Result<Self, Box<dyn std::error::Error>> {
        let x = URL_SAFE_NO_PAD.encode(key.verifying_key().as_bytes());
        let thumbprint = Sha256::digest(format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#));
        Ok(Self {
            encoding: EncodingKey::from_ed_der(key.to_pkcs8_der()?.as_bytes()),
            decoding: DecodingKey::from_ed_components(&x)?,
            id: URL_SAFE_NO_PAD.encode(thumbprint),
            x,
        })
    }

    /// The public half as a JSON Web Key Set (RFC 7517).
    pub(crate) fn jwks(&self) -> serde_json::Value {
        serde_json::json!({
            "keys": [{"kty": "OKP", "crv": "Ed25519", "x": self.x, "kid": self.id, "alg": "EdDSA", "use": "sig"}]
        })
    }
}

/// Makes a key and gives the PEM that now stands at `path`: another process may have been first.
fn create(path: &Path) -> Result<String, Error> {
    let key = ed25519_dalek::SigningKey::from_bytes(&rand::random());
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| unusable(path, error))?;
    place(path, pem.as_bytes()).map_err(|error| unusable(path, error))?;
    std::fs::read_to_string(path).map_err(|error| unusable(path, error))
}

/// Puts a file there whole or not at all, readable to this user alone; one that is there already stays.
fn place(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    let mut draft = tempfile::NamedTempFile::new_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
        Ok(_) => Ok(()),
    }
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> Error {
    Error::SigningKey { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/signing-key.pem");
        let (made, read) = (SigningKey::open(&path).unwrap(), SigningKey::open(&path).unwrap());
        assert_eq!(made.id, read.id);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_is_no_key_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("signing-key.pem");
        std::fs::write(&path, "no key").unwrap();
        let Err(error) = SigningKey::open(&path) else { panic!("taken") };
        assert!(error.to_string().contains("signing-key.pem"), "{error}");
    }

    #[test]
    fn the_thumbprint_is_the_one_of_rfc_8037() {
        let seed = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
        let seed: [u8; 32] = URL_SAFE_NO_PAD.decode(seed).unwrap().try_into().unwrap();
        let key = SigningKey::new(&ed25519_dalek::SigningKey::from_bytes(&seed)).unwrap();
        assert_eq!(key.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(key.jwks()["keys"][0]["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }
}
