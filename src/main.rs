//! The `enginewright` program. All of it is in the library.

fn main() {
    // Before anything else: a worker has a fixed command line and must die with its parent.
    if enginewright::worker::is_worker(std::env::args_os()) {
        enginewright::worker::serve();
    }
}
