"""HTTP server with OpenAI's interface: completions of an attached model, and what they cost.

- `app.make_app`: the routes
- `engine.Engine`: the thread that decodes all requests together
- `asking.Ask`: one prompt to continue; `schema` has the bodies of requests
- `guard.Guard`: hosts, origins, keys and lengths that are let in
"""
