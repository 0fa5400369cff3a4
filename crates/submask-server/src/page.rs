//! The page and the files that belong to it, which stand in the binary.

use std::hash::{DefaultHasher, Hasher};

use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::error::ApiError;

/// What the page may load and do: nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// A file of the page.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

/// Files of the folder `page`, with their content types.
macro_rules! assets {
    ($($name:literal: $kind:expr),* $(,)?) => {
        &[$(Asset { name: $name, kind: $kind, bytes: include_bytes!(concat!("../page/", $name)) }),*]
    };
}

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

const INDEX: &str = "index.html";

const ASSETS: &[Asset] = assets! {
    "api.js": SCRIPT,
    "chips.js": SCRIPT,
    "choice.js": SCRIPT,
    "clock.js": SCRIPT,
    "compose.js": SCRIPT,
    "defaults.js": SCRIPT,
    "dom.js": SCRIPT,
    "explain.js": SCRIPT,
    "form.js": SCRIPT,
    "icon.svg": SVG,
    "index.html": HTML,
    "inspector.js": SCRIPT,
    "layout.js": SCRIPT,
    "likelihood.js": SCRIPT,
    "link.js": SCRIPT,
    "main.js": SCRIPT,
    "painter.js": SCRIPT,
    "panel.js": SCRIPT,
    "picture.js": SCRIPT,
    "problems.js": SCRIPT,
    "replay.js": SCRIPT,
    "run.js": SCRIPT,
    "save.js": SCRIPT,
    "settings.js": SCRIPT,
    "share.js": SCRIPT,
    "sse.js": SCRIPT,
    "stage.js": SCRIPT,
    "style.css": STYLE,
    "template.js": SCRIPT,
    "theme.js": SCRIPT,
    "themes.js": SCRIPT,
    "token.js": SCRIPT,
    "words.js": SCRIPT,
};

/// The page itself.
///
/// # Errors
/// None: it is there.
pub async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    answer(INDEX, &headers)
}

/// A file of the page.
///
/// # Errors
/// 404.
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    answer(&name, &headers)
}

fn answer(name: &str, headers: &HeaderMap) -> Result<Response, ApiError> {
    let asset = ASSETS.iter().find(|asset| asset.name == name);
    let asset = asset.ok_or_else(|| ApiError::not_found(format!("the page has no file {name:?}")))?;
    let tag = tag(asset.bytes);
    let is_known = headers.get_all(IF_NONE_MATCH).iter().any(|known| names(known, &tag));
    let mut response = match is_known {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => Response::new(Body::from(asset.bytes)),
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Kept by the browser, which asks each time whether it is still the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The tag of a content.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("\"{:016x}\"", hasher.finish())
}

/// Whether a header names a tag.
fn names(header: &HeaderValue, tag: &str) -> bool {
    let header = header.to_str().unwrap_or_default();
    header.split(',').map(str::trim).any(|known| known == "*" || known.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served_by_its_kind() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let files = std::fs::read_dir(folder).unwrap();
        // What says how the page is built and tested is not part of it.
        let is_part = |name: &String| !name.ends_with(".md") && !name.ends_with(".json");
        let files: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).filter(is_part).collect();
        let served: BTreeSet<String> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(files, served);
        for asset in ASSETS {
            let kind = match asset.name.rsplit_once('.').unwrap().1 {
                "html" => HTML,
                "js" => SCRIPT,
                "css" => STYLE,
                "svg" => SVG,
                ending => panic!("no kind for .{ending}"),
            };
            assert_eq!(asset.kind, kind, "{}", asset.name);
        }
    }

    /// What the policy would block: scripts and styles in the page, and what comes from elsewhere.
    #[test]
    fn the_page_loads_nothing_that_its_policy_blocks() {
        for asset in ASSETS.iter().filter(|asset| asset.kind != SCRIPT) {
            let text = std::str::from_utf8(asset.bytes).unwrap().to_ascii_lowercase();
            for blocked in
                ["style=", "<style", "onclick=", "onload=", "javascript:", "src=\"http", "src=\"//"]
            {
                let is_drawing = asset.kind == SVG && blocked.contains("style");
                assert!(is_drawing || !text.contains(blocked), "{}: {blocked}", asset.name);
            }
        }
        let index = ASSETS.iter().find(|asset| asset.name == INDEX).unwrap();
        let text = std::str::from_utf8(index.bytes).unwrap();
        for (tag, _) in text.match_indices("<script") {
            let tag = &text[tag..tag + text[tag..].find('>').unwrap()];
            assert!(tag.contains("src="), "{tag}");
        }
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let first = answer(INDEX, &HeaderMap::new()).unwrap();
        assert_eq!(
            (first.status(), &first.headers()[CONTENT_TYPE]),
            (StatusCode::OK, &HTML.parse().unwrap())
        );
        let tag = first.headers()[ETAG].clone();
        let with = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            answer(INDEX, &headers).unwrap().status()
        };
        let tag = tag.to_str().unwrap();
        assert_eq!(with(tag), StatusCode::NOT_MODIFIED);
        assert_eq!(with(&format!("\"other\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(with("\"other\""), StatusCode::OK);
        assert_eq!(answer("nothing.js", &HeaderMap::new()).unwrap_err().status(), StatusCode::NOT_FOUND);
    }
}
