//! Distribution specification, "Pushing a blob in chunks".

use super::*;

#[test]
fn start_of_a_chunked_upload_with_content_length_0_is_202() {
    let daemon = Daemon::start();
    let request = daemon.request("POST", "/v2/a/blobs/uploads/").header("Content-Length", "0");
    request.send().expect(202);
}

#[test]
fn range_of_the_first_chunk_begins_with_0() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    patch(&daemon, &location, "1-5", b"layer").expect(416);
    patch(&daemon, &location, "0-4", b"layer").expect(202);
}

#[test]
fn range_matches_the_regular_expression() {
    let daemon = Daemon::start();
    for range in ["0-", "-4", "x-4", "0 - 4", "0-4x"] {
        let answer = patch(&daemon, &daemon.start_upload("a"), range, b"layer");
        assert!(matches!(answer.status, 400 | 416), "{range}: {}", answer.status);
    }
}

#[test]
fn range_is_inclusive_on_both_ends() {
    let daemon = Daemon::start();
    let location = daemon.start_upload("a");
    let answer = patch(&daemon, &location, "0-5", b"layer");
    assert!(matches!(answer.status, 400 | 416), "a range longer than the chunk: {}", answer.status);
    let location = daemon.start_upload("a");
    let next = patch(&daemon, &location, "0-4", b"layer").expect(202);
    assert_eq!(next.required_header("range"), "0-4");
}

#[test]
fn each_chunk_is_202_with_location_and_range() {
    let daemon = Daemon::start();
    let first = patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202);
    assert_eq!(first.required_header("range"), "0-2");
    let second = patch(&daemon, &first.required_header("location"), "3-4", b"er").expect(202);
    assert_eq!(second.required_header("range"), "0-4");
    let path = with_query(&second.required_header("location"), &format!("digest={}", digest(b"layer")));
    let last = daemon.request("PUT", &path).send().expect(201);
    assert_eq!(daemon.get(&last.required_header("location")).expect(200).body, b"layer");
}

#[test]
fn chunk_out_of_order_is_416_and_changes_nothing() {
    let daemon = Daemon::start();
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    for range in ["0-2", "4-6", "2-4"] {
        patch(&daemon, &location, range, b"xyz").expect(416);
    }
    assert_eq!(daemon.get(&location).expect(204).required_header("range"), "0-2");
}

#[test]
fn final_chunk_comes_with_the_put() {
    let daemon = Daemon::start();
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    let path = with_query(&location, &format!("digest={}", digest(b"layer")));
    let answer = daemon.request("PUT", &path).header("Content-Range", "3-4").body(b"er").send().expect(201);
    assert_eq!(daemon.get(&answer.required_header("location")).expect(200).body, b"layer");
}

#[test]
fn final_chunk_out_of_order_is_416() {
    let daemon = Daemon::start();
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    let path = with_query(&location, &format!("digest={}", digest(b"layer")));
    daemon.request("PUT", &path).header("Content-Range", "4-5").body(b"er").send().expect(416);
}

#[test]
fn closing_put_has_the_digest_of_the_whole_blob() {
    let daemon = Daemon::start();
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    assert_eq!(daemon.request("PUT", &location).send().expect(400).error_code(), "DIGEST_INVALID");
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    let of_the_chunk = with_query(&location, &format!("digest={}", digest(b"er")));
    daemon.request("PUT", &of_the_chunk).body(b"er").send().expect(400);
}

#[test]
fn status_of_an_active_upload_is_204_with_location_and_range() {
    let daemon = Daemon::start();
    let location =
        patch(&daemon, &daemon.start_upload("a"), "0-2", b"lay").expect(202).required_header("location");
    let answer = daemon.get(&location).expect(204);
    assert_eq!(answer.required_header("range"), "0-2");
    patch(&daemon, &answer.required_header("location"), "3-4", b"er").expect(202);
}
