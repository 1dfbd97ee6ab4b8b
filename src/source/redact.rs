//! Credentials do not leave the process: not in errors, not in logs, not in bundles.

/// Shortest password that is looked for by itself; a shorter one would hit innocent text.
const SHORTEST: usize = 4;

/// The text without user names and passwords in URLs, queries of URLs, `Authorization` headers, and
/// every password that stands in a URL of the environment.
#[must_use]
pub(super) fn redact(text: &str, env: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for secret in secrets(env) {
        text = text.replace(&secret, "***");
    }
    text.lines().map(redact_line).collect::<Vec<_>>().join("\n")
}

/// One URL without what is secret in it.
#[must_use]
pub fn redact_url(url: &str) -> String {
    redact_line(url)
}

fn secrets(env: &[(String, String)]) -> Vec<String> {
    let mut secrets = Vec::new();
    for (_, value) in env {
        for (at, _) in value.match_indices("://") {
            let Some(user_info) = user_info(&value[at + 3..]) else { continue };
            let (user, password) = user_info.split_once(':').unwrap_or((user_info, user_info));
            secrets.extend([password, user].into_iter().filter(|s| s.len() >= SHORTEST).map(str::to_owned));
            // What stands alone before the `@` is a token; a user name beside a password is not secret.
            if user_info.contains(':') {
                secrets.retain(|s| s != user || s == password);
            }
        }
    }
    secrets
}

/// What stands before the `@` of a URL's authority.
fn user_info(after_scheme: &str) -> Option<&str> {
    let end = after_scheme.find(is_url_end).unwrap_or(after_scheme.len());
    let url = &after_scheme[..end];
    // A `/` in a password is not allowed, but written all the same: up to the last `@` before a path.
    let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
    authority.rfind('@').map(|at| &authority[..at])
}

fn is_url_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`')
}

fn redact_line(line: &str) -> String {
    if let Some(at) = line.to_ascii_lowercase().find("authorization:") {
        return format!("{}authorization: ***", &line[..at]);
    }
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        clean.push_str(&rest[..at + 3]);
        rest = &rest[at + 3..];
        if let Some(secret) = user_info(rest) {
            clean.push_str("***");
            rest = &rest[secret.len()..];
        }
        let end = rest.find(is_url_end).unwrap_or(rest.len());
        let url = &rest[..end];
        match url.find('?') {
            Some(query) => {
                clean.push_str(&url[..=query]);
                clean.push_str("***");
            }
            None => clean.push_str(url),
        }
        rest = &rest[end..];
    }
    clean.push_str(rest);
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_left() {
        let env = [("PIP_INDEX_URL".to_owned(), "https://jo:s3cret@index.example/simple".to_owned())];
        let clean = |text: &str| redact(text, &env);
        assert_eq!(
            clean("Looking in indexes: https://jo:s3cret@index.example/simple"),
            "Looking in indexes: https://***@index.example/simple"
        );
        assert_eq!(
            clean("401 for 'https://t0ken@h/p?sig=abc&x=1', then"),
            "401 for 'https://***@h/p?***', then"
        );
        assert_eq!(clean("password s3cret refused"), "password *** refused");
        assert_eq!(clean("> Authorization: Basic am86"), "> authorization: ***");
        assert_eq!(clean("https://a:b@c@host/x and http://plain/y"), "https://***@host/x and http://plain/y");
        assert_eq!(clean("mail jo@example.com: 50% done"), "mail jo@example.com: 50% done");
    }

    #[test]
    fn a_token_without_a_user_is_secret_too() {
        let env = [("UV_INDEX_URL".to_owned(), "https://ghp_abcdef@index.example/simple".to_owned())];
        assert_eq!(redact("bad token ghp_abcdef", &env), "bad token ***");
    }
}
