//! Responses in Incus's format, with one published image, to the requests that the gateway sends on its own.

use serde_json::{Value, json};

use super::events::Events;
use super::{Request, Then, Wire};

/// The image's fingerprint, 64 digits.
pub const FINGERPRINT: &str = "5c417bed5c417bed5c417bed5c417bed5c417bed5c417bed5c417bed5c417bed";

pub(super) fn is_request_for_catalogue(request: &Request) -> bool {
    metadata(request).is_some() || Events::is_request(request)
}

pub fn answer(request: &Request, wire: &mut Wire) -> Option<Then> {
    if Events::is_request(request) {
        // This Incus offers none.
        return Some(wire.answer("404 Not Found", "application/json", b"{}"));
    }
    let answer = json!({
        "type": "sync",
        "status": "Success",
        "status_code": 200,
        "operation": "",
        "error_code": 0,
        "error": "",
        "metadata": metadata(request)?,
    });
    Some(wire.answer("200 OK", "application/json", answer.to_string().as_bytes()))
}

fn metadata(request: &Request) -> Option<Value> {
    match request.line().as_str() {
        "GET /1.0 HTTP/1.1" => Some(json!({
            "api_extensions": [],
            "api_status": "stable",
            "api_version": "1.0",
            "auth": "trusted",
            "auth_methods": ["tls"],
            "config": {},
            "environment": {},
            "public": false,
        })),
        "GET /1.0/images?recursion=1 HTTP/1.1" => Some(json!([{
            "aliases": [{ "name": "scripted", "description": "" }],
            "architecture": "x86_64",
            "auto_update": false,
            "cached": false,
            "created_at": "2023-11-14T22:13:20Z",
            "expires_at": "0001-01-01T00:00:00Z",
            "filename": "scripted.tar.xz",
            "fingerprint": FINGERPRINT,
            "last_used_at": "0001-01-01T00:00:00Z",
            "profiles": ["default"],
            "project": "default",
            "properties": {},
            "public": true,
            "size": 1000,
            "type": "container",
            "uploaded_at": "2023-11-14T22:13:20Z",
        }])),
        _ => None,
    }
}
