"""The clients: what is sent to AWS, and how. Only files of this folder import boto3 and the AWS CRT."""
