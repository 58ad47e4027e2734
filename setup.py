"""How pyqs-celery is packaged; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__\s*(?::\s*\w+)?\s*=\s*"([^"]+)"',
    (HERE / "pyqs_celery" / "version.py").read_text("utf-8"),
    re.MULTILINE,
)

COMPRESSION = ["brotli>=1.0.9", "zstandard>=0.17"]
MSGPACK = ["msgpack>=1.0.3"]
YAML = ["PyYAML>=5.4.1"]
AUTH = ["cryptography>=36.0"]
PYDANTIC = ["pydantic>=2.4"]
DJANGO = ["django>=4.2"]
FLASK = ["flask>=2.2"]
MIGRATE = ["libcst>=1.1"]
SOLAR = ["ephem>=4.1"]
REDIS = ["redis>=4.5.4,!=4.5.5,!=5.0.2"]
DATABASE = ["sqlalchemy>=1.4.48"]
MEMCACHED = ["pymemcache>=4.0"]
DJANGO_RESULTS = ["django-celery-results>=2.5"]

setup(
    name="pyqs-celery",
    version=VERSION.group(1) if VERSION else "0.1.0",
    description="Run Celery tasks from Amazon SQS: a drop-in for Celery with PyQS's worker.",
    long_description=(HERE / "README.rst").read_text("utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    packages=find_packages(include=["pyqs_celery", "pyqs_celery.*"]),
    package_data={"pyqs_celery": ["py.typed", "bin/demo_data/*.json"]},
    python_requires=">=3.10",
    install_requires=[
        # From 1.34.90 on every boto3 speaks the JSON protocol that the embedded SQS reads (some before it went back to XML).
        "boto3>=1.34.90",
        "kombu>=5.2",
        # kombu 5.2 calls an importlib.metadata function that Python 3.12 took away.
        'kombu>=5.3; python_version >= "3.12"',
        "click>=8.0",
    ],
    extras_require={
        # Celery's name for what is always here, so that "celery[sqs]" can be replaced word for word.
        "sqs": [],
        "redis": REDIS,
        "memcached": MEMCACHED,
        # boto3 is here already; the names are those that Celery's users have in their requirements
        "dynamodb": [],
        "s3": [],
        "django": DJANGO,
        "pydantic": PYDANTIC,
        "migrate": MIGRATE,
        "solar": SOLAR,
        "database": DATABASE,
        "sqlalchemy": DATABASE,
        "django-results": [*DJANGO, *DJANGO_RESULTS],
        "yaml": YAML,
        "msgpack": MSGPACK,
        "compression": COMPRESSION,
        "auth": AUTH,
        "dev": [
            "pytest>=8.2",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "moto[server]>=5.0.20",
            "mypy>=1.11",
            "ruff>=0.9",
            "types-PyYAML",
            'tomli; python_version < "3.11"',
            *COMPRESSION,
            *MSGPACK,
            *YAML,
            *AUTH,
            *PYDANTIC,
            *DJANGO,
            *FLASK,
            *MIGRATE,
            *SOLAR,
            *REDIS,
            *DATABASE,
            *MEMCACHED,
            *DJANGO_RESULTS,
            "psycopg[binary]>=3.1",
            "tzdata",
            "gevent>=24.2",
        ],
    },
    entry_points={"console_scripts": ["pyqs-celery=pyqs_celery.bin:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "License :: OSI Approved :: MIT License",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
