"""The `openai` Python SDK's calls besides chat, each once and in this order. See sdk/media.rs.

Reads TOLLGATE_URL (the gateway's root) and TASK_TOKEN; exits non-zero at the first surprise.
"""

import io
import os
import wave

import openai

client = openai.OpenAI(
    base_url=os.environ["TOLLGATE_URL"] + "/openai/v1", api_key=os.environ["TASK_TOKEN"]
)


def sound() -> io.BytesIO:
    """A second of silence, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(8000)
        wav.writeframes(bytes(16_000))
    file.seek(0)
    file.name = "silence.wav"
    return file


answer = client.completions.create(
    model="gpt-3.5-turbo-instruct", prompt="Say something.", max_tokens=64
)
assert answer.choices[0].text and answer.usage.completion_tokens > 0, answer

answer = client.embeddings.create(model="text-embedding-3-small", input="some text")
assert answer.data[0].embedding, answer

answer = client.images.generate(model="gpt-image-1", prompt="a cat", size="1024x1024", quality="low")
assert answer.data[0].b64_json and answer.usage.output_tokens > 0, answer

answer = client.audio.transcriptions.create(model="gpt-4o-mini-transcribe", file=sound())
assert answer.text and answer.usage.type == "tokens", answer

answer = client.audio.transcriptions.create(model="whisper-1", file=sound())
assert answer.text and answer.usage.type == "duration", answer

answer = client.audio.speech.create(model="tts-1", voice="alloy", input="Say something.")
assert answer.content, answer
