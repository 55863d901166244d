//! Agents' bearer tokens: `gb_<16 hex digits of the id>_<256 random bits>`.
//!
//! The id in the token says whose it is, so that a token presented for another agent can be distinguished from a wrong one, with
//! one look at one agent. It is no secret and proves nothing; the random part does.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    fleet::{AgentId, TokenHash},
    limits::TOKEN_SECRET_BYTES,
};

const PREFIX: &str = "gb_";

/// A token in clear text; shown once, to the agent that registered.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new token for an agent, and its hash.
    pub fn generate(id: AgentId) -> (Self, TokenHash) {
        let token = Self(format!("{PREFIX}{:016x}_{}", id.get(), random_text()));
        let hash = TokenHash::of(&token.0);
        (token, hash)
    }

    /// Whose token this text claims to be, if it has the form of an agent's token.
    pub fn claimed_agent(text: &str) -> Option<AgentId> {
        let (digits, _) = text.strip_prefix(PREFIX)?.split_once('_')?;
        (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok().map(AgentId::new))?
    }

    /// The text to send.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// 256 random bits as text.
pub fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random::<TOKEN_SECRET_BYTES>())
}

/// 64 random bits.
pub fn random_u64() -> u64 {
    u64::from_ne_bytes(random())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_tells_whose_it_is_and_no_two_are_alike() {
        let id = AgentId::new(0x00f3_a1b2_c3d4_e5f6);
        let (token, hash) = Token::generate(id);
        assert_eq!(Token::claimed_agent(token.as_str()), Some(id));
        assert_eq!(TokenHash::of(token.as_str()), hash);
        assert_ne!(Token::generate(id).0, token);
        for other in ["", "gb_", "gb_00f3a1b2c3d4e5f6", "gb_f3_x", "xx_00f3a1b2c3d4e5f6_s", "gb_+0f3a1b2c3d4e5f_x"] {
            assert_eq!(Token::claimed_agent(other), None, "{other}");
        }
        assert!(!format!("{token:?}").contains("gb_"));
    }
}
