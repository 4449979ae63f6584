"""What people see: sign-in, consent, the device page, their account. Server-rendered, complete without JavaScript.

::

    routes.py      the table: method, path, handler, who may come
    frame.py       the frame round every page: host, session, form, CSRF, errors
    visit.py       what a handler gets: who asks, in which language
    rendering.py   templates/ (Jinja2, autoescaped) to an answer with its headers
    headers.py     what browsers are told to refuse
    csrf.py        that a form comes from our page in this very browser
    languages.py   locales/ and which of them a browser asks for
    assets.py      static/ under names that change with the content
    refusal.py     what an endpoint refuses, said to people
    sign_in.py, second_factor.py, passkeys.py, consent.py, device.py, sign_out.py, account*.py
"""
