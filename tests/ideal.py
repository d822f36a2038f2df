"""An annotator that answers from the truth of a simulated corpus."""

IDEAL = """\
name = "ideal"
engine = "scripted"
model = "truth"
prompt = "reference"
elicit = "sample"
votes = 4
answer = "words"
cross = {{ temperature = [0.7, 1.0], focus = ["tone", "wording"] }}
serve = {{ answers = "{folder}/simulate/truth.parquet" }}
price = {{ audio_minute = 1.0 }}
"""
"""The text of its file; `folder` is where the pipeline writes."""
