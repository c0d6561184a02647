"""A flask API: `/health` and a greeting."""

from flask import Flask, jsonify, request

app = Flask(__name__)


@app.get("/health")
def health():
    return "ok"


@app.post("/greet")
def greet():
    return jsonify(greeting=f"Hello, {request.get_json()['name']}!")


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8080)
