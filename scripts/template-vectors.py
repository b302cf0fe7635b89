#!/usr/bin/env python3
"""Writes tests/golden/chat-templates.json: conversations as transformers itself renders them.

    python3 -m venv /tmp/vectors && /tmp/vectors/bin/pip install transformers jinja2
    /tmp/vectors/bin/python scripts/template-vectors.py

The templates are our own, in the manner of the families that models use. The time is fixed.
"""

import datetime
import json
from pathlib import Path

from transformers.utils import chat_template_utils

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}

TEMPLATES = {
    "turns between marks": """
{%- for message in messages %}
    {%- if loop.first and message['role'] != 'system' %}
        {{- '<|start|>system\\nBe brief and kind.<|stop|>\\n' }}
    {%- endif %}
    {{- '<|start|>' + message['role'] + '\\n' + message.content + '<|stop|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- 'no thoughts' }}{%- endif %}
{%- endif %}
""",
    "headers and a date": """{{- bos_token }}
{%- if not date_string is defined %}{%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}
{%- else %}{%- set date_string = "1 Jan 2020" %}{%- endif %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = "" %}
{%- endif %}
{{- "<|head|>system<|/head|>\\n\\nToday: " + date_string + "\\n\\n" + system + "<|eot|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
    {{- '<|head|>' + message['role'] + '<|/head|>\\n\\n'+ message['content'] | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|head|>assistant<|/head|>\\n\\n' }}{%- endif %}
""",
    "turns that must alternate": """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
        {{- raise_exception("turns must go from user to assistant and back") }}
    {%- endif %}
    {%- set ns.index = ns.index + 1 %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[ASK] " + system_message + "\\n\\n" + message["content"] + " [/ASK]" }}
        {%- else %}
            {{- "[ASK] " + message["content"] + " [/ASK]" }}
        {%- endif %}
    {%- else %}
        {{- " " + message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
""",
    "blocks on lines of their own": """{% for message in messages %}
  {% if message.role == 'user' %}
  User: {{ message.content }}
  {% else %}
  {{ message.role | upper }}: {{ message.content }}
  {% endif %}
{% endfor %}
    {# a remark #}
{% generation %}Answer:{% endgeneration %}
{%- generation -%}  more  {%- endgeneration -%}
end
""",
    "strings as Python has them": """{%- for message in messages -%}
{%- set text = message.content.strip() -%}
{%- if text.startswith('A') or text.endswith('?') -%}[{{ text.split(' ')[0] }}|{{ text.split(' ')[-1] }}]{%- endif -%}
{{ text.upper().lower().capitalize() }};{{ text.replace('e', '3') }};{{ text.lstrip('A').rstrip('?') }}
{%- for key, value in message.items() %} {{ key }}={{ value | length }}{% endfor -%}
{{ message.get('name', 'nobody') }}{{ 'x' in text }}{{ none }}{{ message.missing is none }}{{ 7 // 2 }}{{ 1.0 }}{{ true }}
{% endfor -%}
""",
    "json": """{%- set tool = {'name': 'look', 'args': {'where': 'é < "b" & c', 'n': [1, 2.5, true, none], 'empty': {}, 'no': []}} -%}
{{ tool | tojson }}
{{ tool | tojson(indent=2) }}
{{ tool | tojson(ensure_ascii=True, sort_keys=True) }}
{{ messages | tojson(separators=(',', ':')) }}
{{ messages[0].content | tojson }}
""",
    "loops that end early": """{%- for message in messages -%}
{%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
{{ loop.index }}/{{ loop.length }} {{ message.role }} {{ loop.last }}
{%- if loop.index > 2 -%}{%- break -%}{%- endif %}

{% endfor -%}
{%- macro wrap(text, mark='*') -%}{{ mark }}{{ text }}{{ mark }}{%- endmacro -%}
{{ wrap('a') }}{{ wrap('b', mark='_') }}
{%- for message in messages[::-1] %} {{ message.content | first }}{% endfor %}
{%- set users = messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list %}
{{ users | length }} {{ users | join(', ') }} {{ users[-1] ~ '!' }} {{ 'a' if users else 'b' }} {{ undefined_name }}.
""",
}

CONVERSATIONS = {
    "one turn": [{"role": "user", "content": "  Are you there? "}],
    "with a system": [
        {"role": "system", "content": "Say <little> & “well”.\n"},
        {"role": "user", "content": "A tree: 木\n🌳"},
    ],
    "three turns": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi. Who is\tit?"},
        {"role": "user", "content": "Me"},
    ],
    "out of turn": [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "no"}],
}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def main():
    chat_template_utils.datetime = FixedTime
    cases = []
    for template_name, template in TEMPLATES.items():
        for name, messages in CONVERSATIONS.items():
            case = {"template": template_name, "conversation": name, "messages": messages}
            try:
                rendered, _ = chat_template_utils.render_jinja_template(
                    [messages], chat_template=template, add_generation_prompt=True, **TOKENS
                )
                case["rendered"] = rendered[0]
            except Exception as error:
                case["refused"] = str(error)
            cases.append(case)
    content = {"now": NOW.isoformat(), "tokens": TOKENS, "templates": TEMPLATES, "cases": cases}
    path = GOLDEN / "chat-templates.json"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {len(cases)} cases")


main()
