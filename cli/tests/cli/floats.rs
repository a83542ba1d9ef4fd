//! Floats as values and keys: NaN and signed zeros.

use crate::support::Folder;

#[test]
fn minima_and_maxima_do_not_depend_on_the_order_of_rows() {
    let folder = Folder::new(
        r#"
        source = { type = "csv", path = "in.csv", columns = ["k", "x:float"] }
        step = [{ key_by = "k", aggregate = ["min(x)", "max(x)"] }]
        sink = { type = "csv", path = "out" }
        "#,
    );
    folder
        .write("in.csv", "k,x\na,NaN\na,1.5\na,4\nb,1.5\nb,NaN\nb,4\nc,-0\nc,0\nd,0\nd,-0\ne,NaN\ne,-NaN\n");
    folder.run(&[]);
    assert_eq!(folder.results("out"), ["a,1.5,NaN", "b,1.5,NaN", "c,-0,0", "d,-0,0", "e,NaN,NaN"]);
}

/// A key prints the same whichever of its spellings came first, interrupted or not.
#[test]
fn spellings_of_zero_and_of_nan_are_one_key_each() {
    let folder = Folder::new(
        r#"
        checkpoint = { storage = "checkpoints", interval = "20ms" }
        source = { type = "csv", path = "in.csv", columns = ["x:float"], rate = 4000 }
        step = [{ key_by = "x", aggregate = "count" }]
        sink = { type = "csv", path = "out" }
        "#,
    );
    let rows: String = (0..300).map(|_| "-0\n0\n-NaN\nNaN\n0.0\n-0.0\n").collect();
    folder.write("in.csv", &format!("x\n{rows}"));
    let mut running = folder.start(&[]);
    running.wait_for_checkpoints(2);
    running.kill();
    folder.run(&["--set=source.rate=1000000"]);
    assert_eq!(folder.results("out"), ["0,1200", "NaN,600"]);
    let once = ["--set=source.rate=1000000", "--set=checkpoint.storage=other", "--set=sink.path=once"];
    folder.run(&once);
    assert_eq!(folder.results("once"), ["0,1200", "NaN,600"]);
}
