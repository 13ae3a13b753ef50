//! `crypto`: digests, MACs and signatures, by aws-lc.

use aws_lc_rs::{constant_time, digest, hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::account::Capability;
use crate::bindings::gateway::tidegate::gateway::crypto::{
    DigestAlgorithm, Host, SignatureAlgorithm,
};
use crate::instance::StepState;

impl Host for StepState {
    fn digest(&mut self, algorithm: DigestAlgorithm, data: Vec<u8>) -> Vec<u8> {
        self.calls(Capability::Crypto);
        let algorithm = match algorithm {
            DigestAlgorithm::Sha256 => &digest::SHA256,
            DigestAlgorithm::Sha384 => &digest::SHA384,
            DigestAlgorithm::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, &data).as_ref().to_vec()
    }

    fn hmac(&mut self, algorithm: DigestAlgorithm, key: Vec<u8>, data: Vec<u8>) -> Vec<u8> {
        self.calls(Capability::Crypto);
        let algorithm = match algorithm {
            DigestAlgorithm::Sha256 => hmac::HMAC_SHA256,
            DigestAlgorithm::Sha384 => hmac::HMAC_SHA384,
            DigestAlgorithm::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::sign(&hmac::Key::new(algorithm, &key), &data)
            .as_ref()
            .to_vec()
    }

    fn verify(
        &mut self,
        algorithm: SignatureAlgorithm,
        key: String,
        message: Vec<u8>,
        signature: Vec<u8>,
    ) -> Result<bool, String> {
        self.calls(Capability::Crypto);
        let key: Value =
            serde_json::from_str(&key).map_err(|error| format!("the key is not JSON: {error}"))?;
        verify(algorithm, &key, &message, &signature)
    }

    fn equal(&mut self, a: Vec<u8>, b: Vec<u8>) -> bool {
        self.calls(Capability::Crypto);
        constant_time::verify_slices_are_equal(&a, &b).is_ok()
    }
}

/// Verifies a JWS signature (RFC 7515) under a JWK. A key of another type than the algorithm's is an error, so a public
/// RSA key can never be taken for an HMAC secret.
fn verify(
    algorithm: SignatureAlgorithm,
    key: &Value,
    message: &[u8],
    signed: &[u8],
) -> Result<bool, String> {
    use SignatureAlgorithm as A;
    match algorithm {
        A::Hs256 => verify_hmac(hmac::HMAC_SHA256, 32, key, message, signed),
        A::Hs384 => verify_hmac(hmac::HMAC_SHA384, 48, key, message, signed),
        A::Hs512 => verify_hmac(hmac::HMAC_SHA512, 64, key, message, signed),
        A::Rs256 => verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA256, key, message, signed),
        A::Rs384 => verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA384, key, message, signed),
        A::Rs512 => verify_rsa(&signature::RSA_PKCS1_2048_8192_SHA512, key, message, signed),
        A::Ps256 => verify_rsa(&signature::RSA_PSS_2048_8192_SHA256, key, message, signed),
        A::Ps384 => verify_rsa(&signature::RSA_PSS_2048_8192_SHA384, key, message, signed),
        A::Ps512 => verify_rsa(&signature::RSA_PSS_2048_8192_SHA512, key, message, signed),
        A::Es256 => verify_ec(
            &signature::ECDSA_P256_SHA256_FIXED,
            "P-256",
            32,
            key,
            message,
            signed,
        ),
        A::Es384 => verify_ec(
            &signature::ECDSA_P384_SHA384_FIXED,
            "P-384",
            48,
            key,
            message,
            signed,
        ),
        A::EdDsa => {
            expect_member(key, "kty", "OKP")?;
            expect_member(key, "crv", "Ed25519")?;
            let public = octets(key, "x")?;
            Ok(
                signature::UnparsedPublicKey::new(&signature::ED25519, public)
                    .verify(message, signed)
                    .is_ok(),
            )
        }
    }
}

fn verify_hmac(
    algorithm: hmac::Algorithm,
    bytes_min: usize,
    key: &Value,
    message: &[u8],
    signed: &[u8],
) -> Result<bool, String> {
    expect_member(key, "kty", "oct")?;
    let secret = octets(key, "k")?;
    // "A key of the same size as the hash output or larger MUST be used" (RFC 7518 section 3.2).
    if secret.len() < bytes_min {
        return Err(format!(
            "the key has {} bytes; this algorithm needs {bytes_min}",
            secret.len()
        ));
    }
    Ok(hmac::verify(&hmac::Key::new(algorithm, &secret), message, signed).is_ok())
}

fn verify_rsa(
    parameters: &'static signature::RsaParameters,
    key: &Value,
    message: &[u8],
    signed: &[u8],
) -> Result<bool, String> {
    expect_member(key, "kty", "RSA")?;
    let public = signature::RsaPublicKeyComponents {
        n: octets(key, "n")?,
        e: octets(key, "e")?,
    };
    Ok(public.verify(parameters, message, signed).is_ok())
}

fn verify_ec(
    algorithm: &'static signature::EcdsaVerificationAlgorithm,
    curve: &str,
    coordinate_bytes: usize,
    key: &Value,
    message: &[u8],
    signed: &[u8],
) -> Result<bool, String> {
    expect_member(key, "kty", "EC")?;
    expect_member(key, "crv", curve)?;
    let mut point = vec![4]; // uncompressed (SEC 1 section 2.3.3)
    for coordinate in ["x", "y"] {
        let octets = octets(key, coordinate)?;
        if octets.len() != coordinate_bytes {
            return Err(format!(
                "the key's \"{coordinate}\" has {} bytes, not {coordinate_bytes}",
                octets.len()
            ));
        }
        point.extend(octets);
    }
    Ok(signature::UnparsedPublicKey::new(algorithm, point)
        .verify(message, signed)
        .is_ok())
}

fn expect_member(key: &Value, member: &str, expected: &str) -> Result<(), String> {
    match key[member].as_str() {
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(format!(
            "the key's \"{member}\" is \"{found}\"; this algorithm needs \"{expected}\""
        )),
        None => Err(format!("the key has no \"{member}\"")),
    }
}

fn octets(key: &Value, member: &str) -> Result<Vec<u8>, String> {
    let text = key[member]
        .as_str()
        .ok_or_else(|| format!("the key has no \"{member}\""))?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| format!("the key's \"{member}\" is not base64url"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_rfc_7515_example_verifies_and_its_neighbours_do_not() {
        // RFC 7515 appendix A.1: the key, the signing input and the signature.
        let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
        let key = json!({"kty": "oct", "k": secret});
        let message = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        let signed = URL_SAFE_NO_PAD
            .decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
            .expect("base64url");
        let hs256 = SignatureAlgorithm::Hs256;
        assert_eq!(verify(hs256, &key, message, &signed), Ok(true));
        assert_eq!(verify(hs256, &key, b"another", &signed), Ok(false));
        assert!(
            verify(
                hs256,
                &json!({"kty": "oct", "k": "c2hvcnQ"}),
                message,
                &signed
            )
            .is_err(),
            "too short"
        );
        assert!(
            verify(
                hs256,
                &json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
                message,
                &signed
            )
            .is_err(),
            "confusion"
        );
        assert!(
            verify(SignatureAlgorithm::Rs256, &key, message, &signed).is_err(),
            "confusion"
        );
    }
}
