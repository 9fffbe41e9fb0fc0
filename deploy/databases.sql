-- PostgreSQL's image runs this once; without it: psql -d postgres -f deploy/databases.sql
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
CREATE DATABASE prefect;
CREATE DATABASE optuna;
